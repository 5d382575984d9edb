//! A real nginx of a test's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::server::{Server, free_port};

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

    pub(crate) fn configure(&self, sites: &[(&str, &Path)]) {
        let dir = self.folder.path().display();
        // The workers must be able to enter the test's folder.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let mut text = format!(
            "{user} daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path \
             {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen 127.0.0.1:{}; root {dir}/web; }}\n",
            self.http
        );
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
        text.push_str("}\n");
        std::fs::write(self.conf(), text).unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.server = None;
        let (conf, prefix) = (self.conf(), self.folder.path().display().to_string());
        let argv = ["nginx", "-c", conf.to_str().unwrap(), "-p", &prefix];
        self.server = Some(Server::start(self.folder.path(), &argv, &[], self.http));
    }

    pub(crate) fn web(&self) -> PathBuf {
        self.folder.path().join("web")
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.path().join("nginx.conf")
    }

    /// `reload:` of a job that deploys to this one.
    pub(crate) fn reload(&self) -> String {
        let here = format!("-c, {}, -p, {}", self.conf().display(), self.folder.path().display());
        format!("{{ test: [nginx, -t, {here}], run: [nginx, -s, reload, {here}] }}")
    }
}
