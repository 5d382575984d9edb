//! Takes what is posted to it, on a free port of the loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

pub(crate) struct Webhook {
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Posted>>>,
}

/// A request: its first line, its headers in lower case, and its body.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
}

impl Webhook {
    /// Answers each request with the next of these statuses, and from then on with the last one.
    pub(crate) fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let (keep, statuses) = (taken.clone(), statuses.to_vec());
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                let mut reader = BufReader::new(connection.unwrap());
                let Some(posted) = read(&mut reader) else { continue };
                let status = statuses[number.min(statuses.len() - 1)];
                keep.lock().unwrap().push(posted);
                let location = "location: http://127.0.0.1:1/elsewhere\r\n";
                let answer = format!(
                    "HTTP/1.1 {status} so\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { port, taken }
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.taken.lock().unwrap().clone()
    }
}

fn read(reader: &mut impl BufRead) -> Option<Posted> {
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let line = next()?;
    let mut headers = vec![];
    loop {
        match next()? {
            end if end.is_empty() => break,
            header => headers.push(header.to_lowercase()),
        }
    }
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Posted { line, headers, body: serde_json::from_slice(&body).unwrap() })
}
