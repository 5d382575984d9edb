//! Guards of the house rules: what a reviewer would otherwise have to look for by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use punk_eco_sched::jobs::KINDS;
use walkdir::WalkDir;

/// Who may import whom: a module may use those of its own row and of the rows below.
const ORDER: &[&[&str]] = &[
    &["cli", "daemon"],
    &["api"],
    &["engine", "alert", "metrics"],
    &["config"],
    &["jobs"],
    &["backup"],
    &["host", "spawner", "logs", "ledger"],
    &["schedule"],
    &["document"],
    &["clock", "model", "policy", "units"],
];

#[test]
fn imports_run_downward_only() {
    let mut wrong = String::new();
    for file in files_under("src", "rs") {
        let Some(module) = module_of(&file) else { continue };
        let from = row(&module).unwrap_or_else(|| panic!("{module} has no place in the order of modules"));
        for (line, used) in uses(&product_code(&read(&file)), depth(&file)) {
            match row(&used) {
                Some(to) if to >= from => {}
                Some(_) => {
                    writeln!(wrong, "{}:{line}: {module} uses {used}, which is above it", file.display())
                        .unwrap()
                }
                None => {
                    writeln!(wrong, "{}:{line}: {used} has no place in the order of modules", file.display())
                        .unwrap()
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_import_guard_sees_every_way_to_write_a_path() {
    let check = |code: &str, depth: usize, expected: &[(usize, &str)]| {
        let found = uses(&product_code(code), depth);
        let found: Vec<_> = found.iter().map(|(line, used)| (*line, used.as_str())).collect();
        assert_eq!(found, expected, "{code:?}");
    };
    check("use crate::engine::plan::Event;\n", 1, &[(1, "engine")]);
    check("\nuse crate::{api::{A, B}, model,\n  cli as c};", 1, &[(2, "api"), (2, "model"), (2, "cli")]);
    check("fn f() { crate::daemon::run() }", 1, &[(1, "daemon")]);
    check("use super::engine::X;", 1, &[(1, "engine")]);
    check("use super::super::engine::X;", 2, &[(1, "engine")]);
    check("use super::sibling::X;", 2, &[]);
    check("pub(crate) fn f() {} // crate::cli\n/// [`crate::cli`]\n", 1, &[]);
    check("fn f() {}\n#[cfg(test)]\nmod tests {\n use crate::cli::X;\n}\n", 1, &[]);
    check("#[cfg(test)]\nmod tests;\nuse crate::cli::X;\n", 1, &[(3, "cli")]);
}

#[test]
fn no_test_is_switched_off() {
    let attribute = concat!("#[ign", "ore");
    for file in files_under("src", "rs").into_iter().chain(files_under("tests", "rs")) {
        for (index, line) in read(&file).lines().enumerate() {
            assert!(!line.contains(attribute), "{}:{}: {attribute}…]", file.display(), index + 1);
        }
    }
}

#[test]
fn the_production_table_passes_check() {
    let (fine, said) = check_file(&root().join("jobs.yaml"));
    assert!(fine, "{said}");
}

#[test]
fn every_example_in_the_documents_passes_check() {
    let mut examples = 0;
    for file in documents() {
        for (line, text) in fenced(&read(&file), "yaml") {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("jobs.yaml");
            std::fs::write(&path, &text).unwrap();
            // Whatever the umask: a table that others may write is refused for root.
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let (fine, said) = check_file(&path);
            assert!(fine, "the example at {}:{line}\n{said}", file.display());
            examples += 1;
        }
    }
    assert!(examples > 0, "the documents hold no example at all");
}

#[test]
fn every_kind_is_in_the_documents_and_in_the_schema() {
    assert!(!KINDS.is_empty());
    let reference = read(&root().join("docs/jobs-yaml.md"));
    let readme = read(&root().join("README.md"));
    let output = program().arg("schema").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for kind in KINDS {
        let row = format!("| `{}` |", kind.name);
        assert!(readme.lines().any(|line| line.starts_with(&row)), "README.md has no row that begins {row}");
        let options = options_of(&schema, kind.name);
        assert!(!options.is_empty(), "the schema knows no options of {}", kind.name);
        let section = section(&reference, &format!("### {}", kind.name));
        for option in options {
            assert!(
                section.contains(&format!("{option}: ")) || section.contains(&format!("{option}:\n")),
                "docs/jobs-yaml.md: {} has no {option}:",
                kind.name
            );
        }
    }
}

#[test]
fn every_check_is_in_the_documents() {
    let reference = read(&root().join("docs/jobs-yaml.md"));
    let section = section(&reference, "### health_check");
    let output = program().arg("schema").output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let options = property(&schema, &schema, "jobs").and_then(|jobs| {
        let job = resolved(&schema, jobs.get("additionalProperties")?);
        property(&schema, job, "health_check")
    });
    let checks =
        options.and_then(|options| property(&schema, options, "checks")).expect("the schema has checks");
    let entry = resolved(&schema, &checks["items"]);
    let keys = entry["properties"].as_object().unwrap().keys();
    let mut seen = 0;
    for check in keys.filter(|key| !["name", "severity", "for", "because_of"].contains(&key.as_str())) {
        let begins = format!("- {check}:");
        let examples = section.split("\n        - ").map(|one| format!("- {one}"));
        let example: String = examples.filter(|one| one.starts_with(&begins)).collect();
        assert!(!example.is_empty(), "docs/jobs-yaml.md: health_check has no example `{begins}`");
        let options = property(&schema, entry, check).unwrap()["properties"].as_object().unwrap();
        for option in options.keys().filter(|key| !["name", "severity", "for"].contains(&key.as_str())) {
            let keys = [format!(" {option}: "), format!(" {option}:\n")];
            let told = keys.iter().any(|key| example.contains(key));
            assert!(told, "docs/jobs-yaml.md: health_check's {check} has no {option}:");
        }
        seen += 1;
    }
    assert!(seen > 0, "the schema knows no check");
}

/// What the schema says of a key of this value.
fn property<'a>(
    schema: &'a serde_json::Value,
    of: &'a serde_json::Value,
    key: &str,
) -> Option<&'a serde_json::Value> {
    Some(resolved(schema, of.get("properties")?.get(key)?))
}

/// Where a reference leads, through `anyOf` with null too.
fn resolved<'a>(schema: &'a serde_json::Value, value: &'a serde_json::Value) -> &'a serde_json::Value {
    let within = value["anyOf"].as_array().and_then(|any| any.iter().find(|one| one.get("$ref").is_some()));
    let value = within.unwrap_or(value);
    let target = value["$ref"].as_str().and_then(|to| schema.pointer(to.trim_start_matches('#')));
    target.unwrap_or(value)
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_punk-eco-sched"))
}

fn check_file(file: &Path) -> (bool, String) {
    let output =
        program().arg("--config").arg(file).args(["check", "--no-host"]).output().expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The names of the options of a kind, wherever the schema holds them.
fn options_of(schema: &serde_json::Value, kind: &str) -> Vec<String> {
    let mut found = vec![];
    let mut waiting = vec![schema];
    while let Some(value) = waiting.pop() {
        if let Some(key) = value.get("properties").and_then(|properties| properties.get(kind)) {
            let options = match key.get("$ref").and_then(|reference| reference.as_str()) {
                Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap_or(key),
                None => key,
            };
            let names = options.get("properties").and_then(|properties| properties.as_object());
            found.extend(names.into_iter().flat_map(|names| names.keys().cloned()));
        }
        match value {
            serde_json::Value::Object(map) => waiting.extend(map.values()),
            serde_json::Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    found
}

/// From this heading to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_default();
    rest.split("\n##").next().unwrap_or_default()
}

/// The blocks of Markdown that are fenced as `language`, with the line they begin on.
fn fenced(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = vec![];
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.trim_start().strip_prefix("```") == Some(language) {
            let body =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```"));
            blocks.push((index + 1, body.map(|line| format!("{line}\n")).collect()));
        }
    }
    blocks
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files_under("docs", "md");
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    documents
}

/// The crate's modules that a piece of code names, with the line. `depth`: how many modules deep the code is.
fn uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let crate_by_super = "super::".repeat(depth);
    let mut found = vec![];
    for prefix in ["crate::", crate_by_super.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => first_names(group),
                None => vec![leading_name(rest)],
            };
            // A name with a capital is a macro's or a re-exported item, and `super` goes on upward.
            let modules = names.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
            found.extend(modules.filter(|name| name != "super").map(|name| (line, name)));
        }
    }
    found
}

/// The first name of each path in `a::{b, c}, d as e}`.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut start) = (vec![], 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(leading_name(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The code without comments and without test modules; lines stay where they are.
fn product_code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let inline_tests = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if inline_tests {
            break; // they are the last thing in a file
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

fn row(module: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&module))
}

/// `jobs` for src/jobs/pg_dump/mod.rs; none for the crate's roots and for tests.
fn module_of(file: &Path) -> Option<String> {
    let path = file.strip_prefix(root().join("src")).expect("a file under src");
    let parts: Vec<_> =
        path.iter().map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
    let is_root = parts.len() == 1 && (parts[0] == "lib" || parts[0] == "main");
    let is_test = parts.iter().any(|part| part == "tests" || part.ends_with("_tests"));
    (!is_root && !is_test).then(|| parts[0].clone())
}

/// 1 for src/units.rs and src/jobs/mod.rs, 2 for src/jobs/command.rs.
fn depth(file: &Path) -> usize {
    let path = file.strip_prefix(root().join("src")).expect("a file under src");
    path.components().count() - usize::from(path.ends_with("mod.rs"))
}

fn files_under(folder: &str, extension: &str) -> Vec<PathBuf> {
    let walk = WalkDir::new(root().join(folder)).sort_by_file_name();
    walk.into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
