//! HTTP as bytes, for the front: what a head must be like, the clean request that is made of it,
//! and the answer on its way back.
//!
//! Pure functions over what has been read so far; `client` calls them. The rules are stricter than
//! those of HTTP where leniency is what request smuggling lives on: whatever tiny_http could read
//! in another way than we do, it never sees.

/// The most bytes of a request line with its headers.
pub const MAX_HEAD: usize = 8 * 1024;
/// The most bytes of a request's body.
pub const MAX_BODY: usize = 64 * 1024;
/// The most headers of a request, and of an answer.
const MAX_HEADERS: usize = 64;

/// The header that says to tiny_http's side who the client is. A client's own header of this name
/// is dropped like all that are not [`PASSED`].
pub const CLIENT: &str = "X-Tcpdirector-Client";

/// The header that says that the client asked by HEAD, which is passed on as a GET.
pub const HEAD: &str = "X-Tcpdirector-Head";

/// The headers of a request that reach the pages.
const PASSED: [&str; 9] = [
    "Host",
    "Authorization",
    "Accept",
    "Accept-Language",
    "Origin",
    "Referer",
    "Sec-Fetch-Site",
    "Sec-Purpose",
    "Content-Type",
];
/// The headers of an answer that are the front's own business.
const OURS: [&str; 6] =
    ["Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Server", "Content-Length"];

/// Why a request is not passed on: the status and the words of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub u16, pub &'static str);

/// A request that cannot wait any longer, or at all.
pub const TOO_MANY: Refused = Refused(503, "too many requests are waiting: try again");

/// The head of a request that may be passed on once its body is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Method, target and headers, rewritten.
    clean: String,
    /// Whether the answer has to go without its body.
    pub bodyless: bool,
    /// Whether it asks for `/healthz`, which is served first.
    pub is_for_health: bool,
    /// Where the body begins.
    start: usize,
    /// How many bytes it has.
    length: usize,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
}

impl Head {
    /// Reads a head; `None` while it is not complete.
    pub fn read(bytes: &[u8]) -> Result<Option<Head>, Refused> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let (head, _) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        if head.len() > MAX_HEAD {
            return Err(Refused(431, "the request line and headers are larger than 8 KiB"));
        }
        check_lines(head)?;
        let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut space);
        match request.parse(head) {
            Ok(httparse::Status::Complete(start)) if Some(start) == end => {
                Head::from_parsed(&request, start).map(Some)
            }
            Ok(httparse::Status::Partial) if end.is_none() => Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                Err(Refused(431, "there are more than 64 headers"))
            }
            Err(httparse::Error::Version) => {
                Err(Refused(400, "the version must be HTTP/1.1 or HTTP/1.0"))
            }
            _ => Err(Refused(400, "this is not a request of HTTP/1.1")),
        }
    }

    fn from_parsed(request: &httparse::Request, start: usize) -> Result<Head, Refused> {
        let method = match request.method {
            Some("GET" | "HEAD") => "GET",
            Some("POST") => "POST",
            _ => return Err(Refused(405, "the method must be GET, HEAD or POST")),
        };
        let (host, target) = target(request.path.unwrap_or_default())?;
        if one(request, "Transfer-Encoding")?.is_some() {
            return Err(Refused(501, "Transfer-Encoding is not supported: send a Content-Length"));
        }
        let expects_continue = match one(request, "Expect")? {
            None => false,
            Some(value) if value.eq_ignore_ascii_case("100-continue") => request.version == Some(1),
            Some(_) => {
                return Err(Refused(417, "the only expectation that can be met is 100-continue"));
            }
        };
        let length = length(one(request, "Content-Length")?)?;
        let mut clean = format!("{method} {target} HTTP/1.1\r\n");
        for name in PASSED {
            let value = match (name, host) {
                ("Host", Some(_)) => one(request, name).map(|_| host)?,
                _ => one(request, name)?,
            };
            if name == "Host" && value.is_none() && request.version == Some(1) {
                return Err(Refused(400, "HTTP/1.1 needs a Host header"));
            }
            if let Some(value) = value {
                clean.extend([name, ": ", value, "\r\n"]);
            }
        }
        let is_for_health = target.split('?').next() == Some("/healthz");
        Ok(Head {
            clean,
            bodyless: request.method == Some("HEAD"),
            is_for_health,
            start,
            length,
            expects_continue,
        })
    }

    /// Whether all of the body is there.
    pub fn is_complete(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.start.saturating_add(self.length)
    }

    /// The clean request; what the client sent behind its body is left out.
    pub fn rewrite(&self, bytes: &[u8], client: &str) -> Vec<u8> {
        let body =
            bytes.get(self.start..self.start.saturating_add(self.length)).unwrap_or_default();
        let head = if self.bodyless { format!("{HEAD}: 1\r\n") } else { String::new() };
        let ours = format!("{CLIENT}: {client}\r\n{head}Content-Length: {}\r\n\r\n", body.len());
        [self.clean.as_bytes(), ours.as_bytes(), body].concat()
    }
}

/// Lines end in CR LF, none goes on in the next, and there is no NUL.
fn check_lines(head: &[u8]) -> Result<(), Refused> {
    for two in head.windows(2) {
        match two {
            [b'\r', b'\n'] => {}
            [b'\r', _] | [_, b'\n'] => {
                return Err(Refused(400, "a line of the head does not end in CR LF"));
            }
            [b'\n', b' ' | b'\t'] => return Err(Refused(400, "a header must stand on one line")),
            [0, _] | [_, 0] => return Err(Refused(400, "there is a NUL in the head")),
            _ => {}
        }
    }
    match head {
        [b'\r' | b'\n' | 0, ..] => Err(Refused(400, "a request begins with its method")),
        _ => Ok(()),
    }
}

/// The value of a header that may stand only once.
fn one<'a>(request: &'a httparse::Request, name: &str) -> Result<Option<&'a str>, Refused> {
    let mut values = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value);
    let value = values.next();
    if values.next().is_some() {
        return Err(Refused(400, "a header that may stand once stands twice"));
    }
    let is_plain = |bytes: &&[u8]| bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    match value {
        None => Ok(None),
        Some(bytes) => {
            let text =
                Some(bytes).filter(is_plain).and_then(|bytes| std::str::from_utf8(bytes).ok());
            text.map(Some).ok_or(Refused(400, "the value of a header is not plain ASCII"))
        }
    }
}

/// The target without a scheme and a host, and the host.
fn target(text: &str) -> Result<(Option<&str>, String), Refused> {
    if !text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
        return Err(Refused(400, "the target has characters that must be written as %XX"));
    }
    if text.starts_with('/') {
        return Ok((None, text.to_owned()));
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let rest = rest.ok_or(Refused(400, "the target must begin with a slash"))?;
    let (host, path) =
        rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len())).unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') {
        return Err(Refused(400, "the target names no host"));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((Some(host), format!("{slash}{path}")))
}

fn length(value: Option<&str>) -> Result<usize, Refused> {
    let Some(value) = value else { return Ok(0) };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refused(400, "the Content-Length is not a number"));
    }
    // a number that is too large for a usize is too large for us
    match value.parse() {
        Ok(length) if length <= MAX_BODY => Ok(length),
        _ => Err(Refused(413, "the body is larger than 64 KiB")),
    }
}

/// The answer to a client whose request is not passed on.
pub fn refusal(Refused(status, words): Refused) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Gateway Timeout",
    };
    let more = match status {
        405 => "Allow: GET, HEAD, POST\r\n",
        429 => "Retry-After: 1\r\n",
        _ => "",
    };
    let body = format!("NOT OK: {words}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n{more}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// How many bytes an answer of tiny_http has with its head; `None` while the head is not complete.
pub fn length_of_answer(raw: &[u8]) -> Option<usize> {
    let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut space);
    let Ok(httparse::Status::Complete(start)) = answer.parse(raw) else { return None };
    Some(start.saturating_add(length_of_body(&answer)))
}

/// What the head says; nothing where there is no body.
fn length_of_body(answer: &httparse::Response) -> usize {
    let header =
        answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"));
    let length = header.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    length.filter(|_| has_body(answer)).unwrap_or(0)
}

fn has_body(answer: &httparse::Response) -> bool {
    !matches!(answer.code, Some(204 | 304))
}

/// Makes what tiny_http answered fit for the client; `None` if it is cut off or no answer.
pub fn relay_answer(mut raw: Vec<u8>, bodyless: bool) -> Option<Vec<u8>> {
    let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut space);
    let Ok(httparse::Status::Complete(start)) = answer.parse(&raw) else { return None };
    let body = raw.len().checked_sub(start).filter(|body| *body == length_of_body(&answer))?;
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", answer.code?, answer.reason.unwrap_or_default()).into_bytes();
    for header in answer
        .headers
        .iter()
        .filter(|header| !OURS.iter().any(|name| header.name.eq_ignore_ascii_case(name)))
    {
        head.extend([header.name.as_bytes(), b": ", header.value, b"\r\n"].concat());
    }
    if has_body(&answer) {
        head.extend(format!("Content-Length: {body}\r\n").into_bytes());
    }
    head.extend(b"Connection: close\r\n\r\n");
    if bodyless || !has_body(&answer) {
        return Some(head);
    }
    raw.try_reserve(head.len()).ok()?;
    raw.splice(..start, head);
    Some(raw)
}
