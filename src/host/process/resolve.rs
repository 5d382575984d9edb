//! Which file a program's name means: the PATH of the job's environment decides, not the daemon's.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// The absolute path of `program`: of a path, relative to `cwd`; of a bare name, the first in `path` that can be
/// executed.
///
/// # Errors
/// What is missing, in a sentence without the program's name.
pub fn find_program(program: &str, path: &str, cwd: &Path) -> Result<PathBuf, String> {
    if program.is_empty() {
        return Err("the name of the program is empty".to_owned());
    }
    if program.contains('/') {
        let found = cwd.join(program);
        return usable(&found).map(|()| found);
    }
    let mut reason = None;
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = cwd.join(folder).join(program);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            // A file that is there but can't be executed is what the user meant.
            Err(why) if candidate.is_file() => reason = Some(format!("{}: {why}", candidate.display())),
            Err(_) => {}
        }
    }
    Err(reason.unwrap_or_else(|| format!("no such program in PATH ({path})")))
}

fn usable(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    })?;
    if found.is_dir() {
        return Err("it is a folder".to_owned());
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|_| "it is not executable: is `chmod +x` missing?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_would() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("c/only", 0o644)] {
            let file = root.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
        }
        let path = format!("{0}/a:{0}/b:{0}/c", root.display());
        let check = |program: &str, expected: Result<&str, String>| {
            let expected = expected.map(|name| root.join(name));
            assert_eq!(find_program(program, &path, root), expected, "{program}");
        };
        check("tool", Ok("b/tool"));
        check("b/tool", Ok("b/tool"));
        check("./b/tool", Ok("./b/tool"));
        check("a/tool", Err("it is not executable: is `chmod +x` missing?".into()));
        check("a/", Err("it is a folder".into()));
        check("x/tool", Err("no such file".into()));
        check("absent", Err(format!("no such program in PATH ({path})")));
        check(
            "only",
            Err(format!("{}/c/only: it is not executable: is `chmod +x` missing?", root.display())),
        );
        check("", Err("the name of the program is empty".into()));
    }
}
