//! The command line is read, and one that is wrong is told in the form that it asks for.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error, FromArgMatches};

use crate::args::Args;
use crate::failure::Failure;

/// Reads the arguments. Help, the version, and what is wrong without `--json` are printed here, and
/// the program ends.
pub(crate) fn read(mut command: Command, arguments: &[OsString]) -> Result<Args, Failure> {
    let matches = command.try_get_matches_from_mut(arguments);
    let read = matches.and_then(|matches| {
        let args = Args::from_arg_matches(&matches)?;
        refuse_transport(&mut command, &matches, &args)?;
        Ok(args)
    });
    let mut error = match read {
        Ok(args) => return Ok(args),
        Err(error) => error,
    };
    name_variable(&command, arguments, &mut error);
    if error.use_stderr() && wants_json(arguments) {
        return Err(Failure::usage(sentence(&error)));
    }
    error.exit()
}

/// Refuses a transport where it would be passed over: what was meant for one bus must not be done to
/// another. A variable is set for the verbs that use it.
fn refuse_transport(command: &mut Command, matches: &ArgMatches, args: &Args) -> Result<(), Error> {
    let is_typed = matches.value_source("transport") == Some(ValueSource::CommandLine);
    match matches.subcommand_name() {
        Some(verb) if is_typed && args.command.asks_a_running_bus() => Err(command.error(
            ErrorKind::ArgumentConflict,
            format!(
                "`{verb}` asks a running bus, whatever carries that; leave --transport out, and \
                 name the bus with --url"
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether errors are to be JSON. What follows `--` belongs to another program.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut own = arguments.iter().take_while(|one| *one != "--");
    own.any(|one| one == "--json")
}

/// What is wrong, in one line and without the usage, which `--help` prints.
fn sentence(error: &Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "name a command; `--help` lists them".to_owned();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let said: Vec<String> = text
        .split("\n\n")
        .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    format!("{}; `--help` shows what there is", said.join("; "))
}

/// Blames the variable that a value came from, and not its flag, which nobody typed.
fn name_variable(command: &Command, arguments: &[OsString], error: &mut Error) {
    let (Some(ContextValue::String(flag)), Some(ContextValue::String(value))) = (
        error.get(ContextKind::InvalidArg),
        error.get(ContextKind::InvalidValue),
    ) else {
        return;
    };
    // It is shown with the name of its value.
    let Some(flag) = flag.split([' ', '=']).next() else {
        return;
    };
    let Some(long) = flag.strip_prefix("--") else {
        return;
    };
    let is_flag = |one: &str| one.split('=').next() == Some(flag);
    let typed = arguments
        .iter()
        .any(|one| one.to_str().is_some_and(is_flag));
    let name = variable(command, long, value).filter(|_| !typed);
    if let Some(name) = name {
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    }
}

/// The variable that has this value and stands for a flag of this name.
fn variable(command: &Command, long: &str, value: &str) -> Option<String> {
    let mut all = command.get_arguments();
    let own = all.find(|arg| arg.get_long() == Some(long));
    let name = own.and_then(Arg::get_env);
    match name.filter(|name| std::env::var_os(name).is_some_and(|set| set == value)) {
        Some(name) => Some(name.to_string_lossy().into_owned()),
        None => {
            let mut below = command.get_subcommands();
            below.find_map(|command| variable(command, long, value))
        }
    }
}
