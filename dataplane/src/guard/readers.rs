//! Two readers of HTTP/1.1 that know nothing of ours, nor of each other: httparse, which the codec uses, and a strict one. Tests
//! hold what is emitted against both; part of the tests alone.

/// Where each message of `bytes` begins and how long its body is on the wire, as one reader sees it; `None` at the end: cut.
pub(crate) type Framing = Vec<(usize, Option<usize>)>;

/// httparse for heads, and for the sizes of chunks.
pub(crate) fn by_httparse(bytes: &[u8]) -> Result<Framing, String> {
    let mut framing = Framing::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        let head = match request
            .parse(&bytes[at..])
            .map_err(|error| format!("{error} at {at}"))?
        {
            httparse::Status::Complete(head) => head,
            httparse::Status::Partial => return Err(format!("half a head at {at}")),
        };
        http::Uri::try_from(request.path.unwrap()).map_err(|error| format!("{error}: {:?}", request.path))?;
        let value = |name: &str| {
            request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        let body = match (value("transfer-encoding"), value("content-length")) {
            (Some(_), _) => chunks(&bytes[at + head..]),
            (None, Some(length)) => Some(std::str::from_utf8(length).unwrap().parse().unwrap()),
            (None, None) => Some(0),
        };
        let body = body.filter(|body| at + head + body <= bytes.len());
        framing.push((at, body));
        let Some(body) = body else { break };
        at += head + body;
    }
    Ok(framing)
}

fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(bytes.get(at..)?).unwrap() else {
            return None;
        };
        at += line;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            return match httparse::parse_headers(bytes.get(at..)?, &mut fields).unwrap() {
                httparse::Status::Complete((trailers, _)) => Some(at + trailers),
                httparse::Status::Partial => None,
            };
        }
        at += usize::try_from(size).ok()?;
        match bytes.get(at..at + 2) {
            Some(end) => assert_eq!(end, b"\r\n"),
            None => return None,
        }
        at += 2;
    }
}

/// Strict: what is not exactly as the guard or the codec writes it, whose colons a space may follow, is an error.
pub(crate) fn by_hand(bytes: &[u8]) -> Result<Framing, String> {
    let mut framing = Framing::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = find(&bytes[at..], b"\r\n\r\n").ok_or(format!("no end of the head at {at}"))? + 4;
        let head: String = bytes[at..at + end - 4].iter().map(|byte| char::from(*byte)).collect();
        if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(format!("stray control characters in {head:?}"));
        }
        let mut lines = head.split("\r\n");
        if lines.next().unwrap().split(' ').count() != 3 {
            return Err(format!("not three words in {head:?}"));
        }
        let mut body = Some(0);
        let mut framings = 0;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (name.to_ascii_lowercase().as_str(), value) {
                ("transfer-encoding", "chunked") => body = chunks_by_hand(&bytes[at + end..])?,
                ("content-length", value) if value == value.parse::<u64>().unwrap_or(u64::MAX).to_string() => {
                    body = value.parse().ok();
                }
                ("transfer-encoding" | "content-length", _) => return Err(format!("{line:?}")),
                (_, _) => continue,
            }
            framings += 1;
        }
        if framings > 1 {
            return Err(format!("two framings in {head:?}"));
        }
        let body = body.filter(|body| at + end + body <= bytes.len());
        framing.push((at, body));
        let Some(body) = body else { break };
        at += end + body;
    }
    Ok(framing)
}

fn chunks_by_hand(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| "a size")?;
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("size {text:?}"))?;
        // The guard writes digits in lower case, the codec in upper case.
        if format!("{size:x}") != text && format!("{size:X}") != text {
            return Err(format!("size {text:?}"));
        }
        at += line + 2;
        if size == 0 {
            let trailers = &bytes[at..];
            let end = if trailers.starts_with(b"\r\n") {
                Some(2)
            } else {
                find(trailers, b"\r\n\r\n").map(|end| end + 4)
            };
            return Ok(end.map(|end| at + end));
        }
        at += size;
        match bytes.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(other) => return Err(format!("{other:?} after a chunk")),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
