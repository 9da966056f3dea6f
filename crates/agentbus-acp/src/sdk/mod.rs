//! The one module that names the official crate, which changes its interface every other month.

pub(crate) mod driving;
pub(crate) mod elicitation;
pub(crate) mod pages;
pub(crate) mod place;
pub(crate) mod prompt;
pub(crate) mod serving;
