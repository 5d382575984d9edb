//! What needs no server; the rest is in tests/it/health.

use super::*;

#[test]
fn what_is_looked_for_is_found_across_pieces() {
    let check = |pieces: &[&str], wanted: &str, expected: bool| {
        let mut finder = Finder::new(wanted.as_bytes());
        pieces.iter().for_each(|piece| finder.look(piece.as_bytes()));
        assert_eq!(finder.found, expected, "{wanted} in {pieces:?}");
    };
    check(&[], "", true);
    check(&["status: ok"], "ok", true);
    check(&["status: o", "k"], "ok", true);
    check(&["a", "b", "c"], "abc", true);
    check(&["ab", "ab", "c"], "abc", true);
    check(&["o", " k"], "ok", false);
    check(&[], "ok", false);
}

#[test]
fn an_address_never_shows_a_password() {
    let check = |target: Result<Target, String>, expected: Result<&str, &str>| {
        let shown = target.map(|target| {
            assert_eq!(format!("{target:?}"), target.to_string());
            target.to_string()
        });
        assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned));
    };
    check(Target::parse("http://127.0.0.1:0/health"), Err("nobody can listen at port 0"));
    check(Target::parse("http://127.0.0.1:5000/health?deep=1"), Ok("http://127.0.0.1:5000/health?deep=1"));
    check(Target::parse("https://monitor:hunter2@web1/"), Ok("https://web1/"));
    check(Target::parse("https://[::1]:8443"), Ok("https://[::1]:8443/"));
    check(Target::secret("https://hooks.example/T0/hunter2?x=y"), Ok("https://hooks.example/…"));
    let written = Target::parse("http://u:hunter2@web1/x").map(|target| target.shown_as("${env:URL}"));
    check(written, Ok("${env:URL}"));
    check(Target::parse("ftp://u:hunter2@web1/x"), Err("ftp: is neither http nor https"));
    check(Target::parse("hunter2"), Err("relative URL without a base: it begins with http:// or https://"));
    check(Target::parse("http://hunter2:x:y/"), Err("invalid port number"));
}

#[test]
fn a_redirect_takes_no_credentials_to_another_server_and_no_secret_into_the_open() {
    let check = |from: &Target, location: &str, expected: Option<(&str, &str)>| {
        let next = from.redirected(location.as_bytes());
        let next = next.as_ref().map(|next| (next.url().as_str(), next.to_string()));
        assert_eq!(next, expected.map(|(url, shown)| (url, shown.to_owned())), "{location}");
    };
    let open = Target::parse("http://u:hunter2@web1/a").unwrap();
    check(&open, "/b", Some(("http://u:hunter2@web1/b", "http://web1/b")));
    check(&open, "//web2/b#part", Some(("http://web2/b", "http://web2/b")));
    check(&open, "https://web1/b", Some(("https://web1/b", "https://web1/b")));
    check(&open, "file:///etc/passwd", None);
    check(&open, "http://", None);
    let secret = Target::secret("https://hooks.example/hunter2").unwrap();
    check(&secret, "/hunter2/", Some(("https://hooks.example/hunter2/", "https://hooks.example/…")));
}
