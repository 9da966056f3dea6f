//! Where calls go.

use std::cell::RefCell;

use agentbus_protocol::{Subject, SubjectError, SubjectSpace, Text};

thread_local! {
    /// The target that this thread has called last. Callers mostly stay with one, and here they find
    /// its subject checked and put together.
    static LAST: RefCell<Option<Address>> = const { RefCell::new(None) };
}

/// A target and what stands before it, and the subject that they make.
struct Address {
    root: Text,
    target: Text,
    subject: Subject,
}

/// The subject of requests to a target.
pub(crate) fn of_target(space: &SubjectSpace, target: &Text) -> Result<Subject, SubjectError> {
    LAST.with_borrow_mut(|last| {
        if let Some(known) = last
            && known.target == *target
            && known.root == *space.root()
        {
            return Ok(known.subject.copied());
        }
        let subject = space.invoke(target)?;
        *last = Some(Address {
            root: space.root().clone(),
            target: target.clone(),
            subject: subject.clone(),
        });
        Ok(subject)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_called_last_is_not_what_is_called_now() {
        let spaces =
            ["", "shop", "bank"].map(|tenant| SubjectSpace::new("acp.v1", tenant).unwrap());
        for target in ["echo", "echo", "planner", "echo"] {
            for space in &spaces {
                let subject = of_target(space, &target.into());
                assert_eq!(subject, space.invoke(target));
            }
        }
        assert!(of_target(&spaces[0], &"a b".into()).is_err());
        assert!(of_target(&spaces[0], &"echo".into()).is_ok());
    }
}
