//! A real nginx of a test's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::server::{Server, free_port, program};

pub(crate) struct Nginx {
    folder: tempfile::TempDir,
    pub(crate) http: u16,
    pub(crate) https: u16,
    server: Option<Server>,
}

impl Nginx {
    /// Plain HTTP alone: files of [`Nginx::web`].
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("nginx").tempdir().unwrap();
        let mut nginx = Self { folder, http: free_port(), https: free_port(), server: None };
        std::fs::create_dir(nginx.web()).unwrap();
        nginx.configure(&[]);
        nginx.restart();
        nginx
    }

    /// One site for each name, with the certificate in its folder.
    pub(crate) fn serving(sites: &[(&str, &Path)]) -> Self {
        let mut nginx = Self::start();
        nginx.configure(sites);
        nginx.restart();
        nginx
    }

    /// Before an application on this port of the loopback. All but `/health` is logged to `access.log` in its prefix, in
    /// the combined format with `$request_time`.
    pub(crate) fn before(application: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("nginx").tempdir().unwrap();
        let mut nginx = Self { folder, http: free_port(), https: free_port(), server: None };
        let dir = nginx.prefix().display();
        let listen = format!(
            "log_format timed '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
             \"$http_referer\" \"$http_user_agent\" $request_time';\n\
             server {{ listen 127.0.0.1:{}; access_log {dir}/access.log timed;\n\
             location / {{ proxy_pass http://127.0.0.1:{application}; }}\n\
             location = /health {{ proxy_pass http://127.0.0.1:{application}; access_log off; }} }}\n",
            nginx.http
        );
        nginx.write_conf(&listen);
        nginx.restart();
        nginx
    }

    pub(crate) fn configure(&self, sites: &[(&str, &Path)]) {
        let dir = self.folder.path().display();
        let mut text = format!("server {{ listen 127.0.0.1:{}; root {dir}/web; }}\n", self.http);
        for (name, certificate) in sites {
            let files = certificate.display();
            writeln!(
                text,
                "server {{ listen 127.0.0.1:{} ssl; server_name {name}; ssl_certificate {files}/fullchain.pem; \
                 ssl_certificate_key {files}/privkey.pem; }}",
                self.https
            )
            .unwrap();
        }
        self.write_conf(&text);
    }

    /// With these servers.
    fn write_conf(&self, servers: &str) {
        let dir = self.folder.path().display();
        // The workers must be able to enter the test's folder.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "{user} daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path \
             {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n{servers}}}\n"
        );
        std::fs::write(self.conf(), text).unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.server = None;
        let (conf, prefix) = (self.conf(), self.folder.path().display().to_string());
        let argv = ["nginx", "-c", conf.to_str().unwrap(), "-p", &prefix];
        self.server = Some(Server::start(self.folder.path(), &argv, &[], self.http));
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// As `nginx -s` sends it: `reopen`, `reload`.
    pub(crate) fn signal(&self, signal: &str) {
        let mut nginx = program("nginx");
        nginx.args(["-s", signal, "-c"]).arg(self.conf()).arg("-p").arg(self.prefix());
        let output = nginx.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn web(&self) -> PathBuf {
        self.folder.path().join("web")
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.path().join("nginx.conf")
    }

    pub(crate) fn prefix(&self) -> &Path {
        self.folder.path()
    }

    /// `reload:` of a job that deploys to this one.
    pub(crate) fn reload(&self) -> String {
        let here = format!("-c, {}, -p, {}", self.conf().display(), self.folder.path().display());
        format!("{{ test: [nginx, -t, {here}], run: [nginx, -s, reload, {here}] }}")
    }
}
