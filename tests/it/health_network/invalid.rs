//! Options of the checks over the network that `check` refuses, at their places.

use super::host;

fn problems(check: &str) -> Vec<(u64, String)> {
    let host = host("", &[check.to_owned()]);
    let output = host.cli(&["check", "--no-host", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = said["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|one| (one["column"].as_u64().unwrap(), one["message"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_wrong_option_is_found_at_its_place() {
    let check = |text: &str, expected: &[(u64, &str)]| {
        let found = problems(text);
        let found: Vec<_> = found.iter().map(|(column, message)| (*column, message.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    };
    check("http: { url: http://127.0.0.1:5000/health }", &[]);
    check("http: { url: '${env:SHOP_URL}' }", &[]);
    check(
        "http: { url: 'ftp://shop/' }",
        &[(24, "this is no address of http or https: ftp: is neither http nor https")],
    );
    check(
        "http: { url: 'shop:hunter2' }",
        &[(24, "this is no address of http or https: shop: is neither http nor https")],
    );
    check("http: { url: 'shop${env:X}' }", &[(24, "an address begins with http:// or https://")]);
    check("http: { url: http://a/, status: [] }", &[(43, "with an empty list no answer would be right")]);
    check(
        "http: { url: http://a/, status: [200, 99, 600] }",
        &[(49, "`99` is no HTTP status"), (53, "`600` is no HTTP status")],
    );
    check("http: { url: http://a/, timeout: 0s }", &[(44, "`timeout: 0s` leaves no time for an answer")]);
    check(
        "http: { url: http://a/, within: 6s, timeout: 5s }",
        &[(43, "`within: 6s` can't be measured: after `timeout: 5s` nobody waits any more")],
    );
    check("http: { url: http://a/, within: 0s }", &[(43, "`within: 0s` leaves no time for an answer")]);
    check("tcp: { address: '::1:25' }", &[(27, "`::1:25` is not an address and a port")]);
    check("tcp: { address: 'db:25', timeout: 0s }", &[(45, "`timeout: 0s` leaves no time for an answer")]);
    check("postgres: { connection: app }", &[(35, "unknown connection `app`")]);
}
