//! Where the control socket is.
//!
//! Its path is wanted before anything else is known, by verbs that must work (and be quick) even while the rest
//! of the file is wrong, as `reload` and `cancel` are: so `paths.socket` is read by itself.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::Failure;
use crate::clock::SystemClock;
use crate::config::{self, Environment, FILE_VARIABLE};

/// As much of a file as is looked at for the socket's sake.
const LONGEST: u64 = 8 << 20;

/// The control socket of the daemon that runs this table.
///
/// # Errors
/// Where a file was named that isn't there.
pub fn socket(option: Option<&Path>) -> Result<PathBuf, Failure> {
    let environment = Environment::of_process(&SystemClock);
    let file = config::find_file(option, &environment);
    let named = option.is_some() || environment.variable(FILE_VARIABLE).is_some();
    if let Err(error) = std::fs::metadata(&file)
        && named
    {
        return Err(Failure::wrong(format!("{}: {error}", file.display())));
    }
    match quick(&file) {
        Some(socket) => {
            let folder = file.parent().unwrap_or(Path::new(""));
            Ok(std::path::absolute(folder.join(&socket)).unwrap_or(socket))
        }
        None => Ok(config::paths_of(&file, &environment).socket),
    }
}

/// `paths.socket`, where the file has it in the usual form.
fn quick(file: &Path) -> Option<PathBuf> {
    // A named pipe in the file's place would be waited for.
    if !std::fs::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(file).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    socket_in(&text)
}

#[derive(Deserialize)]
struct Whole {
    paths: Option<Paths>,
}

#[derive(Deserialize)]
struct Paths {
    socket: Option<PathBuf>,
}

fn socket_in(text: &str) -> Option<PathBuf> {
    serde_saphyr::from_str::<Whole>(&config::paths_block(text)?).ok()?.paths?.socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_beside_mistakes() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(socket_in(text), expected.map(PathBuf::from), "{text}");
        };
        check("paths:\n  state: /s\n\n# note\n  socket: /run/a.sock\njobs: {}\n", Some("/run/a.sock"));
        check(
            "jobs: [: broken\npaths:\n  socket: \"/run/a b.sock\"   # ours\nlogs: }\n",
            Some("/run/a b.sock"),
        );
        check("paths: { socket: /run/a.sock }\n", Some("/run/a.sock"));
        // These are for the reader of the whole file.
        check("{ paths: { socket: /run/a.sock }, jobs: {} }\n", None);
        check("x: &p { socket: /run/a.sock }\npaths: *p\n", None);
        check("paths:\n  state: /s\njobs: {}\n", None);
        check("jobs:\n  a:\n    paths:\n      socket: /no\n", None);
        check("", None);
        check("paths: 7\n", None);
    }
}
