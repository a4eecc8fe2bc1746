//! What is said on a connection: HTTP/1.1, so that a client can ask any web server and a server
//! answers any web client, with contents that follow from the exchange's key and the octet's place.

use std::io::Write as _;

/// What one exchange is: a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Decides every octet of both; no two exchanges of a run have the same.
    pub key: u64,
    /// Octets of the request, its head included; at least [`MIN_REQUEST_BYTES`].
    pub request_bytes: u32,
    /// Octets of the response behind its head.
    pub body_bytes: u32,
    /// Whether the server closes the connection behind the response.
    pub server_closes: bool,
}

/// The longest body, so that the digits of its length have a fixed number and sequence numbers
/// compare rightly.
pub const MAX_BODY_BYTES: u32 = 1_000_000_000;
/// The longest request.
pub const MAX_REQUEST_BYTES: u32 = 65_535;

const REQUEST: &[u8] = b"GET /0000000000000000/0000000000/00000 HTTP/1.1\r\nHost: tidegate-perf\r\nConnection: ----------\r\nX-Fill: ";
const KEY: std::ops::Range<usize> = 5..21;
const BODY: std::ops::Range<usize> = 22..32;
const LENGTH: std::ops::Range<usize> = 33..38;
const CONNECTION: std::ops::Range<usize> = 82..92;
const REQUEST_END: &[u8] = b"\r\n\r\n";
const KEEP_ALIVE: &[u8; 10] = b"keep-alive";
const CLOSE: &[u8; 10] = b"close     ";

/// The shortest request.
pub const MIN_REQUEST_BYTES: u32 = (REQUEST.len() + REQUEST_END.len()) as u32;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: tidegate-perf\r\nContent-Type: text/plain\r\nConnection: ----------\r\nContent-Length: 0000000000\r\n\r\n";
const RESPONSE_CONNECTION: std::ops::Range<usize> = 78..88;
const RESPONSE_LENGTH: std::ops::Range<usize> = 106..116;

/// Octets of a response's head.
pub const HEAD_BYTES: u32 = RESPONSE.len() as u32;

/// Octets that are generated at once.
const CHUNK_BYTES: usize = 512;

impl Exchange {
    /// Octets of the whole response.
    #[must_use]
    pub const fn response_bytes(&self) -> u32 {
        HEAD_BYTES + self.body_bytes
    }

    /// Writes the request's octets from `offset` on.
    pub fn write_request(&self, offset: u32, into: &mut [u8]) {
        let begin = offset as usize;
        let end = self.request_bytes as usize - REQUEST_END.len();
        fill(!self.key, u64::from(offset), into);
        if begin < REQUEST.len() {
            overlay(into, begin, &self.request_head(), 0);
        }
        overlay(into, begin, REQUEST_END, end);
    }

    /// Writes the response's octets from `offset` on.
    pub fn write_response(&self, offset: u32, into: &mut [u8]) {
        let head = HEAD_BYTES as usize;
        let begin = offset as usize;
        let heading = head.saturating_sub(begin).min(into.len());
        let (front, body) = into.split_at_mut(heading);
        if heading > 0 {
            overlay(front, begin, &self.response_head(), 0);
        }
        fill(
            self.key,
            (begin + heading).saturating_sub(head) as u64,
            body,
        );
    }

    /// Whether `octets` are the request's from `offset` on.
    #[must_use]
    pub fn is_request(&self, offset: u32, octets: &[u8]) -> bool {
        same(octets, |at, into| {
            self.write_request(offset + at as u32, into);
        })
    }

    /// Whether `octets` are the response's from `offset` on.
    #[must_use]
    pub fn is_response(&self, offset: u32, octets: &[u8]) -> bool {
        same(octets, |at, into| {
            self.write_response(offset + at as u32, into);
        })
    }

    fn request_head(&self) -> [u8; REQUEST.len()] {
        let mut head = [0; REQUEST.len()];
        head.copy_from_slice(REQUEST);
        hexadecimal(&mut head[KEY], self.key);
        decimal(&mut head[BODY], self.body_bytes);
        decimal(&mut head[LENGTH], self.request_bytes);
        head[CONNECTION].copy_from_slice(connection(self.server_closes));
        head
    }

    fn response_head(&self) -> [u8; RESPONSE.len()] {
        let mut head = [0; RESPONSE.len()];
        head.copy_from_slice(RESPONSE);
        head[RESPONSE_CONNECTION].copy_from_slice(connection(self.server_closes));
        decimal(&mut head[RESPONSE_LENGTH], self.body_bytes);
        head
    }

    /// The exchange that a request of [`Exchange::write_request`] asks for, of which `front` is
    /// the beginning. `None` for anything else.
    #[must_use]
    pub fn of_request(front: &[u8]) -> Option<Self> {
        let head = front.first_chunk::<{ REQUEST.len() }>()?;
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&head[range]).ok();
        let exchange = Self {
            key: u64::from_str_radix(text(KEY)?, 16).ok()?,
            request_bytes: text(LENGTH)?.parse().ok()?,
            body_bytes: text(BODY)?.parse().ok()?,
            server_closes: &head[CONNECTION] == CLOSE,
        };
        let is_possible = (MIN_REQUEST_BYTES..=MAX_REQUEST_BYTES).contains(&exchange.request_bytes)
            && exchange.body_bytes <= MAX_BODY_BYTES;
        (is_possible && exchange.request_head() == *head).then_some(exchange)
    }

    /// The exchange that a common client's request asks for, `GET /OCTETS`, which has come whole.
    #[must_use]
    pub fn of_common_request(request: &[u8]) -> Option<Self> {
        let rest = request.strip_prefix(b"GET /")?;
        if !request.ends_with(REQUEST_END) {
            return None;
        }
        let digits = rest.iter().take_while(|octet| octet.is_ascii_digit());
        let digits = &rest[..digits.count()];
        let body_bytes = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let request_bytes = u32::try_from(request.len()).ok()?;
        let lines = request.split(|&octet| octet == b'\n');
        let mut closes = lines.filter(|line| line.eq_ignore_ascii_case(b"connection: close\r"));
        (body_bytes <= MAX_BODY_BYTES && request_bytes <= MAX_REQUEST_BYTES).then(|| Self {
            key: 0,
            request_bytes,
            body_bytes,
            server_closes: closes.next().is_some(),
        })
    }
}

/// What the head of a response says, if it stands whole at the front of `octets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Octets of the head.
    pub head_bytes: u32,
    /// Octets of the body behind it.
    pub body_bytes: u32,
}

impl ResponseHead {
    /// Reads the head of a successful response; `None` for another, one that is not whole, or one
    /// that does not say its body's length.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        octets
            .strip_prefix(b"HTTP/1.")
            .filter(|rest| rest.get(1..5) == Some(b" 200"))?;
        let end = octets.windows(4).position(|four| four == REQUEST_END)? + REQUEST_END.len();
        let length = octets[..end]
            .split(|&octet| octet == b'\n')
            .find_map(|line| {
                let (name, value) = line.split_at_checked(b"content-length:".len())?;
                name.eq_ignore_ascii_case(b"content-length:")
                    .then(|| value.trim_ascii())
            })?;
        let body_bytes: u32 = std::str::from_utf8(length).ok()?.parse().ok()?;
        (body_bytes <= MAX_BODY_BYTES).then_some(Self {
            head_bytes: end as u32,
            body_bytes,
        })
    }
}

fn connection(closes: bool) -> &'static [u8; 10] {
    if closes { CLOSE } else { KEEP_ALIVE }
}

fn decimal(into: &mut [u8], mut number: u32) {
    for place in into.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn hexadecimal(mut into: &mut [u8], number: u64) {
    // The range is as wide as the widest number.
    let _ = write!(into, "{number:016x}");
}

/// Copies what of `piece`, which stands at `at` of the stream, lies in `into`, which stands at
/// `begin`.
fn overlay(into: &mut [u8], begin: usize, piece: &[u8], at: usize) {
    let from = begin.max(at);
    let to = (begin + into.len()).min(at + piece.len());
    if from < to {
        into[from - begin..to - begin].copy_from_slice(&piece[from - at..to - at]);
    }
}

fn same(octets: &[u8], write: impl Fn(usize, &mut [u8])) -> bool {
    let mut expected = [0; CHUNK_BYTES];
    octets
        .chunks(CHUNK_BYTES)
        .enumerate()
        .all(|(number, chunk)| {
            let expected = &mut expected[..chunk.len()];
            write(number * CHUNK_BYTES, expected);
            expected == chunk
        })
}

/// Fills `into` with the letters of `key` from `offset` on: `a` to `p`, so that they may stand in
/// a header.
pub fn fill(key: u64, offset: u64, into: &mut [u8]) {
    const LETTERS: u64 = 0x6161_6161_6161_6161;
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let letters = |index: u64| (LETTERS + (mix(key, index) & LOW)).to_le_bytes();
    let (mut index, within) = (offset / 8, (offset % 8) as usize);
    let (front, rest) = into.split_at_mut(((8 - within) % 8).min(into.len()));
    if !front.is_empty() {
        front.copy_from_slice(&letters(index)[within..within + front.len()]);
        index += 1;
    }
    let (words, last) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = letters(index);
        index += 1;
    }
    last.copy_from_slice(&letters(index)[..last.len()]);
}

/// The `index`-th number of the generator SplitMix64 that begins at `key`.
fn mix(key: u64, index: u64) -> u64 {
    let mut bits = key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exchange(key: u64, fill_bytes: u32, body_bytes: u32, server_closes: bool) -> Exchange {
        Exchange {
            key,
            request_bytes: MIN_REQUEST_BYTES + fill_bytes,
            body_bytes,
            server_closes,
        }
    }

    #[test]
    fn requests_and_responses_are_http() {
        let example = exchange(0xabc, 3, 12, true);
        let mut request = vec![0; example.request_bytes as usize];
        example.write_request(0, &mut request);
        let request = String::from_utf8(request).unwrap();
        let head = "GET /0000000000000abc/0000000012/00109 HTTP/1.1\r\nHost: tidegate-perf\r\n\
                    Connection: close     \r\nX-Fill: ";
        assert!(request.starts_with(head), "{request}");
        assert!(request.ends_with("\r\n\r\n"));
        let mut response = vec![0; example.response_bytes() as usize];
        example.write_response(0, &mut response);
        let head = ResponseHead::read(&response).unwrap();
        assert_eq!((head.head_bytes, head.body_bytes), (HEAD_BYTES, 12));
    }

    #[test]
    fn a_common_clients_request_names_its_octets() {
        let request = b"GET /512?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let asked = Exchange::of_common_request(request).unwrap();
        assert_eq!((asked.body_bytes, asked.server_closes), (512, true));
        assert_eq!(asked.request_bytes as usize, request.len());
        assert_eq!(Exchange::of_common_request(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(Exchange::of_common_request(&request[..20]), None);
    }

    #[test]
    fn only_a_whole_head_of_success_with_a_length_is_read() {
        let read = |text: &str| ResponseHead::read(text.as_bytes());
        let whole = "HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length:  7 \r\n\r\nabc";
        assert_eq!(read(whole).unwrap().body_bytes, 7);
        assert_eq!(read(&whole[..40]), None);
        assert_eq!(read(&whole.replace("200", "404")), None);
        assert_eq!(
            read(&whole.replace("content-length", "content-langth")),
            None
        );
        assert_eq!(read(&whole.replace('7', "-7")), None);
    }

    proptest! {
        #[test]
        fn any_piece_of_a_stream_is_a_piece_of_the_whole(
            key in any::<u64>(),
            fill_bytes in 0u32..700,
            body_bytes in 0u32..1500,
            closes in any::<bool>(),
            cut in any::<(u16, u16)>(),
        ) {
            let example = exchange(key, fill_bytes, body_bytes, closes);
            let piece = |length: u32| {
                let from = u32::from(cut.0) % (length + 1);
                (from, from + u32::from(cut.1) % (length - from + 1))
            };
            let mut request = vec![0; example.request_bytes as usize];
            example.write_request(0, &mut request);
            prop_assert_eq!(Exchange::of_request(&request), Some(example));
            let (from, to) = piece(example.request_bytes);
            let mut part = vec![0; (to - from) as usize];
            example.write_request(from, &mut part);
            prop_assert_eq!(&request[from as usize..to as usize], &part[..]);
            prop_assert!(example.is_request(from, &part));

            let mut response = vec![0; example.response_bytes() as usize];
            example.write_response(0, &mut response);
            let (from, to) = piece(example.response_bytes());
            let part = &mut response[from as usize..to as usize];
            prop_assert!(example.is_response(from, part));
            if let Some(octet) = part.last_mut() {
                *octet ^= 1;
                prop_assert!(!example.is_response(from, part));
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Exchange::of_request(&octets);
            let _ = Exchange::of_common_request(&octets);
            let _ = ResponseHead::read(&octets);
        }
    }
}
