//! A client that sends exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::fake::{FakeServer, SECRET};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case, with their values.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The session's cookie, as it is sent back.
    pub fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
    }
}

/// A request under way.
pub struct Request<'a> {
    server: &'a FakeServer,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl FakeServer {
    pub fn get(&self, path: &str) -> Request<'_> {
        self.request("GET", path)
    }

    /// A form as a browser sends it from a page of ours.
    pub fn post(&self, path: &str, form: &str) -> Request<'_> {
        let mut request = self.request("POST", path).set("Origin", &self.origin());
        request = request.set("Content-Type", "application/x-www-form-urlencoded");
        request.body = form.into();
        request
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn request(&self, method: &'static str, path: &str) -> Request<'_> {
        let host = ("Host".to_string(), format!("127.0.0.1:{}", self.port));
        Request {
            server: self,
            method,
            path: path.into(),
            headers: vec![host],
            body: String::new(),
        }
    }

    /// Signs in and gives the cookie.
    pub fn sign_in(&self) -> String {
        let answer = self.post("/sign-in", &format!("secret={SECRET}")).send();
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.cookie()
    }

    /// The token in the forms of a session.
    pub fn csrf(&self, cookie: &str) -> String {
        let page = self.get("/").set("Cookie", cookie).send().body;
        let rest = page.split_once("name=\"csrf\" value=\"").expect("a token").1;
        rest.split_once('"').expect("its end").0.to_owned()
    }
}

impl Request<'_> {
    /// Sets a header, in place of one with this name.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Leaves a header away.
    pub fn unset(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// Sends it, reads the head, and leaves the body to read.
    pub fn open(self) -> (Answer, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body));
        stream.write_all(text.as_bytes()).expect("send");
        let mut reader = BufReader::new(stream);
        let status = line(&mut reader);
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = line(&mut reader);
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        (Answer { status, headers, body: String::new() }, reader)
    }

    pub fn send(self) -> Answer {
        let (mut answer, mut reader) = self.open();
        reader.read_to_string(&mut answer.body).expect("a body of text");
        answer
    }
}

/// The next line, without its end.
pub fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}
