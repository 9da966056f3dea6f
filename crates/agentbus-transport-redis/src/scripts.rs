//! The steps that the server takes as one.
//!
//! They run in Lua on the server, so that what belongs together is done or not done together,
//! whoever else publishes, joins or dies at that moment. They build the names of their keys
//! themselves, which is why a Redis Cluster is refused at the start.

use std::sync::LazyLock;

use redis::{Cmd, Script};

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: Step = Step {
                text: concat!(include_str!("scripts/common.lua"), $(include_str!(concat!("scripts/", $file))),+),
                hash: LazyLock::new(|| hash($name.text)),
            };
        )*
    };
}

scripts! {
    PUBLISH = "publish.lua";
    JOIN = "queues.lua" "join.lua";
    COPY = "queues.lua" "copy.lua";
    LEAVE = "queues.lua" "leave.lua";
    RELEASE = "queues.lua" "release.lua";
    CLAIM = "claim.lua";
    NAK = "queues.lua" "nak.lua";
    EXTEND = "queues.lua" "extend.lua";
    WAKE = "queues.lua" "wake.lua";
    BEAT = "queues.lua" "beat.lua";
    DROP = "queues.lua" "drop.lua";
    REMOVE = "queues.lua" "remove.lua";
    LIST = "list.lua";
}

/// One script.
#[derive(Debug)]
pub(crate) struct Step {
    text: &'static str,
    hash: LazyLock<String>,
}

/// The SHA-1 of a text, by which the server knows a script.
pub(crate) fn hash(text: &str) -> String {
    Script::new(text).get_hash().to_owned()
}

impl Step {
    /// The command that runs it, to which its arguments are added.
    pub(crate) fn call(&'static self) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&*self.hash).arg(0);
        cmd
    }

    /// The command that makes it known to a server.
    pub(crate) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(self.text);
        cmd
    }
}
