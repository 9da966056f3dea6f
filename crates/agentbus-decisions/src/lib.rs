//! What waits for a person: one object for everybody who asks, and the board that shows it.
//!
//! A [`Question`] says who asks for what, and what can be answered: one of some options, or the
//! fields of a [`Form`]. Whoever asks hands it to a [`Decider`] and waits; the [`Board`] is the one
//! that shows it to everybody until somebody answers. What waits elsewhere, as a card in a thread
//! does, joins the list as a [`Source`].
//!
//! The first answer wins, and only people give one: see [`Voice`]. It does not decide anything by
//! itself; what needs no person is the asker's to know.

mod announce;
pub mod board;
mod form;
pub mod limits;
mod question;

pub use board::{Board, NotTaken, Source, Taken, Voice};
pub use form::{Form, FormError};
pub use question::{
    Answer, Ask, Asker, AskerKind, Choice, Decider, Decision, NoLink, Nobody, Question, timestamp,
};
