use super::*;

#[test]
fn names_cover_what_rfc_6125_says() {
    let check = |names: &[&str], name: &str, expected: bool| {
        let certificate = Certificate {
            serial: "01".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::UNIX_EPOCH,
            issuer: "CN=x".into(),
            self_signed: true,
        };
        assert_eq!(certificate.covers(name), expected, "{names:?} {name}");
    };
    check(&["punk-eco.ma", "www.punk-eco.ma"], "www.punk-eco.ma", true);
    check(&["Punk-Eco.ma"], "punk-eco.MA.", true);
    check(&["punk-eco.ma"], "www.punk-eco.ma", false);
    check(&["*.punk-eco.ma"], "www.punk-eco.ma", true);
    check(&["*.punk-eco.ma"], "punk-eco.ma", false);
    check(&["*.punk-eco.ma"], "a.b.punk-eco.ma", false);
    check(&["*"], "localhost", false);
    check(&["*.punk-eco.ma"], ".punk-eco.ma", false);
    check(&["127.0.0.1", "::1"], "0:0:0:0:0:0:0:1", true);
    check(&["127.0.0.1"], "127.0.0.2", false);
    check(&[], "punk-eco.ma", false);
}

#[test]
fn a_serial_is_written_as_openssl_writes_it() {
    assert_eq!(serial_of(&[0, 0xd5, 0x0a]), "D50A");
    assert_eq!(serial_of(&[0x04, 0]), "0400");
    assert_eq!(serial_of(&[0]), "00");
}

#[test]
fn what_is_no_certificate_is_told_by_what_it_is() {
    let check = |content: &[u8], expected: &str| {
        assert_eq!(parse(content).unwrap_err(), expected);
    };
    check(b" \n", "is empty");
    check(b"hello", "is not a certificate, neither as PEM nor as DER");
    check(
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "holds a private key and no certificate",
    );
    let error = parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err();
    assert!(error.starts_with("is not a certificate: block 1 of its PEM: "), "{error}");
    let error = parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap_err();
    assert!(error.starts_with("is not a certificate: its PEM is damaged"), "{error}");
}

#[test]
fn what_is_no_file_is_told_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, expected: &str| {
        assert_eq!(read_file(&folder.path().join(name)).unwrap_err(), expected, "{name}");
    };
    check("absent", "doesn't exist");
    check(".", "is a folder");
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    check("pipe", "is not an ordinary file");
    std::fs::File::create(folder.path().join("huge")).unwrap().set_len(MOST + 1).unwrap();
    check("huge", "holds more than 1 MiB, which no certificate does");
}
