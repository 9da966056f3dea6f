//! Questions that wait for a person, and who answers them: those of `agentbus-decisions`.

pub use agentbus_decisions::{Answer, Ask, Asker, Choice, Decider, Nobody, Question};
