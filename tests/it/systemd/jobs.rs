//! Jobs that speak with systemd: a certificate is deployed by a reload, and units are checked.

use crate::support::daemon::{text, wait_until};
use crate::support::systemd::Machine;

/// A lineage of certbot's, signed by itself, and nginx that serves it. `letsencrypt NUMBER` makes the certificate of that
/// number the newest one.
const NGINX: &str = r#"
cat >/usr/local/bin/letsencrypt <<'END'
set -e
cd /etc/letsencrypt/archive/punk.localhost
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 89 -subj /CN=punk.localhost \
    -addext subjectAltName=DNS:punk.localhost -set_serial "$1" -keyout "privkey$1.pem" -out "cert$1.pem" 2>/dev/null
cp "cert$1.pem" "chain$1.pem"
cat "cert$1.pem" "chain$1.pem" >"fullchain$1.pem"
for name in cert chain fullchain privkey; do ln -sf "$PWD/$name$1.pem" "../../live/punk.localhost/$name.pem"; done
END
set -e
chmod 755 /usr/local/bin/letsencrypt
cd /etc/letsencrypt
mkdir -p archive/punk.localhost live/punk.localhost renewal
for name in cert chain fullchain privkey; do echo "$name = $PWD/live/punk.localhost/$name.pem"; done >renewal/punk.localhost.conf
printf 'archive_dir = %s\n[renewalparams]\nauthenticator = standalone\nserver = https://localhost:1/dir\nkey_type = ecdsa\n' \
    "$PWD/archive/punk.localhost" >>renewal/punk.localhost.conf
sh /usr/local/bin/letsencrypt 1
cat >/etc/nginx/conf.d/punk.conf <<END
server {
    listen 127.0.0.1:8443 ssl;
    server_name punk.localhost;
    ssl_certificate $PWD/live/punk.localhost/fullchain.pem;
    ssl_certificate_key $PWD/live/punk.localhost/privkey.pem;
}
END
systemctl restart nginx certbot.timer
"#;

#[test]
fn a_certificate_that_was_renewed_and_not_deployed_is_deployed_through_systemd() {
    let job = "  renew: { retries: { attempts: 1 }, certbot_renew: { reload: nginx, served_at: [{ address: \"127.0.0.1:8443\", name: punk.localhost }] } }";
    let Some(machine) = Machine::with_jobs(job) else { return };
    machine.ok(NGINX);
    machine.systemctl("start");
    let served = || {
        machine.ok("openssl s_client -connect 127.0.0.1:8443 -servername punk.localhost </dev/null 2>/dev/null | openssl x509 -noout -serial")
    };
    let findings = || machine.history("renew")[0]["findings"].to_string();
    machine.ok("punk-eco-sched run-now renew");
    assert_eq!(served(), "serial=01");
    assert!(findings().contains("certbot.timer is active"), "{}", findings());

    let pid = machine.ok("systemctl show --value --property MainPID nginx");
    machine.ok("systemctl stop certbot.timer && sh /usr/local/bin/letsencrypt 2");
    assert_eq!(served(), "serial=01");
    machine.ok("punk-eco-sched run-now renew");
    assert_eq!(served(), "serial=02");
    assert!(!findings().contains("certbot.timer"), "{}", findings());
    assert_eq!(machine.ok("systemctl show --value --property MainPID nginx"), pid);

    machine.ok("sh /usr/local/bin/letsencrypt 3 && echo nonsense >/etc/nginx/conf.d/broken.conf");
    let failed = machine.sh("punk-eco-sched run-now renew");
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("/etc/nginx/conf.d/broken.conf:"), "{}", text(&failed.stderr));
    machine.ok("rm /etc/nginx/conf.d/broken.conf && punk-eco-sched run-now renew");
    assert_eq!(served(), "serial=03");
}

#[test]
fn the_service_check_tells_units_that_run_from_those_that_do_not() {
    let check = |unit: &str| format!("{{ service: {{ unit: {unit} }} }}");
    let units = ["nginx", "mended", "broken", "nowhere", "masked"].map(check).join(", ");
    let Some(machine) = Machine::with_jobs(&format!("  units: {{ health_check: {{ checks: [{units}] }} }}"))
    else {
        return;
    };
    for (unit, program) in [("mended", "/bin/sleep infinity"), ("broken", "/bin/false")] {
        machine.write(
            &format!("/etc/systemd/system/{unit}.service"),
            &format!("[Service]\nExecStart={program}\n"),
        );
    }
    machine.ok("systemctl mask masked.service && systemctl daemon-reload && systemctl start nginx");
    machine.systemctl("start");
    machine.sh("systemctl start broken");
    wait_until("it has failed", || machine.sh("systemctl is-failed --quiet broken").status.success());
    let look = || {
        let status = machine.sh("punk-eco-sched run-now units").status;
        (status.code(), machine.history("units")[0]["findings"].to_string())
    };
    let (code, findings) = look();
    assert_eq!(code, Some(1));
    for expected in [
        "mended.service is inactive (dead)",
        "broken.service is failed (failed)",
        "result exit-code",
        "there is no unit nowhere.service",
        "masked.service is masked",
    ] {
        assert!(findings.contains(expected), "{expected}: {findings}");
    }
    assert!(!findings.contains("nginx"), "{findings}");
    machine.ok("systemctl start mended && systemctl stop nginx");
    let (_, findings) = look();
    assert!(!findings.contains("mended.service"), "{findings}");
    assert!(findings.contains("nginx.service is inactive (dead)"), "{findings}");

    let fine = [check("nginx"), check("mended")].join(", ");
    machine.write_jobs(&format!("  units: {{ health_check: {{ checks: [{fine}] }} }}"));
    machine.systemctl("reload");
    machine.ok("systemctl start nginx && punk-eco-sched run-now units");
}
