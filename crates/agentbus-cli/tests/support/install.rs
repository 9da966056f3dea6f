//! Installing packages of other languages once, beside the build.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Node that runs what npm installs, so that the one of the machine does not matter.
const NODE: &str = "node@22.23.3";

/// Returns a directory with these packages of npm and a [`node`]; `None` if they cannot be had.
pub(crate) fn npm(name: &str, packages: &[&str]) -> Option<PathBuf> {
    const QUIETLY: [&str; 5] = ["npm", "install", "--no-audit", "--no-fund", "--silent"];
    let install = [&QUIETLY[..], &[NODE], packages].concat();
    installed(name, &[&install])
}

/// The interpreter in a directory of [`npm`].
pub(crate) fn node(home: &Path) -> PathBuf {
    home.join("node_modules/node/bin/node")
}

/// Returns a directory in which these commands have run; `None` if they cannot run here.
pub(crate) fn installed(name: &str, commands: &[&[&str]]) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).unwrap();
    // Tests of one package share a directory, and may be processes of their own.
    let one_at_a_time = File::create(directory.join("installing")).unwrap();
    one_at_a_time.lock().unwrap();
    let wanted = format!("{commands:?}");
    let done = directory.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted) {
        return Some(directory);
    }
    for command in commands {
        let mut run = Command::new(command[0]);
        run.args(&command[1..]).current_dir(&directory);
        let ran = run.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !ran.is_ok_and(|status| status.success()) {
            println!("SKIPPED: `{}` does not work here", command.join(" "));
            return None;
        }
    }
    std::fs::write(done, wanted).unwrap();
    Some(directory)
}
