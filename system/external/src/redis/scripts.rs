//! The scripts, and how they are called: by digest, since every connection loads all of them first.
use std::sync::LazyLock;

use redis::{Cmd, Pipeline, ToRedisArgs};

macro_rules! scripts {
    ($($script:ident = $($file:literal)+;)+) => {
        /// A script.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Script { $($script),+ }

        /// Texts, in the order of [`Script`].
        const TEXTS: &[&str] = &[$(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)),+];
    };
}

scripts! {
    Incarnation = "clock" "incarnation";
    Enqueue = "clock" "look" "queue" "enqueue";
    Read = "clock" "look" "position" "queue" "read";
    States = "clock" "look" "states";
    Trim = "clock" "position" "trim";
    Watermarks = "watermarks";
    Join = "clock" "leases" "join";
    Renew = "clock" "leases" "renew";
    Leave = "clock" "leases" "leave";
    Nodes = "clock" "leases" "nodes";
    Now = "clock" "now";
    Claim = "clock" "leases" "claim";
    Forget = "clock" "leases" "forget";
    Register = "clock" "routes" "register";
    Unregister = "clock" "routes" "unregister";
    Present = "present";
    RoutesOf = "routes_of";
    Changes = "changes";
    Newest = "newest";
    Devices = "told" "devices";
    Wipe = "clock" "told" "wipe";
}

static DIGESTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    TEXTS.iter().map(|text| redis::Script::new(text).get_hash().to_owned()).collect()
});

/// Commands that load every script.
pub(super) fn load() -> Pipeline {
    let mut commands = redis::pipe();
    for text in TEXTS {
        commands.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    commands
}

/// One call of a script.
pub(super) struct Call {
    command: Cmd,
}

impl Call {
    /// A call with its keys; arguments follow.
    pub(super) fn new(script: Script, keys: &[String]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&DIGESTS[script as usize]).arg(keys.len()).arg(keys);
        Self { command }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// The command.
    pub(super) fn into_command(self) -> Cmd {
        self.command
    }
}
