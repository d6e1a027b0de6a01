//! What goes wrong between a store and its service: a proxy that passes requests on, but for the
//! faults that it was told.
//!
//! Invariants: a fault hits the next request that it is for, once for each time it was told; what
//! is passed on goes unchanged, so that signatures hold. It knows nothing of the server: it stands
//! before the one of this process and before any other.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::net::{Listening, listen};

/// See each; what a store makes of them stands in `tiering/FAULTS.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service answers so and does nothing.
    Answers(u16, &'static str),
    /// It does it; the connection ends before the answer.
    LostReply,
    /// The connection ends; the service never hears of it.
    LostRequest,
    /// The answer's body breaks off in the middle.
    CutAnswer,
    /// A byte of what is sent is another one when it arrives.
    FlippedRequest,
    /// A byte of what the service gives is another one when it arrives.
    FlippedAnswer,
    /// The checksum that it tells is not that of the object.
    WrongSum,
    /// Nothing is heard for a while.
    Slow(Duration),
    /// A list from before anything was written.
    StaleList,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Put,
    Part,
    Complete,
    Abort,
    Get,
    Head,
    List,
    Any,
}

impl To {
    fn is(self, request: &Request<Incoming>) -> bool {
        let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
        match self {
            Self::Part => *method == Method::PUT && query.contains("uploadId="),
            Self::Put => *method == Method::PUT && !query.contains("uploadId="),
            Self::Complete => *method == Method::POST && query.contains("uploadId="),
            Self::Abort => *method == Method::DELETE && query.contains("uploadId="),
            Self::List => *method == Method::GET && query.contains("list-type="),
            Self::Get => *method == Method::GET && !query.contains("list-type="),
            Self::Head => *method == Method::HEAD,
            Self::Any => true,
        }
    }
}

#[derive(Default)]
struct Told {
    faults: Vec<(To, Fault, u32)>,
    seen: Vec<String>,
    /// By chance, from this state: a fault in so many of a thousand requests.
    chance: Option<(u64, u64)>,
    /// All requests, but for those of a probe.
    always: Option<Fault>,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    told: Arc<Mutex<Told>>,
    listening: Arc<Listening>,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let theirs = Arc::clone(&told);
        let service = service_fn(move |request| {
            let fault = theirs.lock().unwrap().fault_for(&request);
            pass(server, request, fault)
        });
        Self { told, listening: Arc::new(listen(service)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The next `times` requests of this kind meet this.
    pub(crate) fn fail(&self, to: To, fault: Fault, times: u32) {
        self.told.lock().unwrap().faults.push((to, fault, times));
    }

    /// No fault from now on.
    pub(crate) fn forget(&self) {
        *self.told.lock().unwrap() = Told::default();
    }

    /// So many of a thousand requests meet some fault.
    pub(crate) fn fail_by_chance(&self, seed: u64, of_thousand: u64) {
        self.told.lock().unwrap().chance = Some((seed, of_thousand));
    }

    /// Every request but those of a probe meets this.
    pub(crate) fn fail_objects(&self, fault: Fault) {
        self.told.lock().unwrap().always = Some(fault);
    }

    /// Methods and paths of what was asked since the last time this was called.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap().seen)
    }
}

const BY_CHANCE: [Fault; 9] = [
    Fault::Answers(503, "SlowDown"),
    Fault::Answers(500, "InternalError"),
    Fault::Answers(409, "ConditionalRequestConflict"),
    Fault::LostReply,
    Fault::LostRequest,
    Fault::CutAnswer,
    Fault::FlippedRequest,
    Fault::FlippedAnswer,
    Fault::WrongSum,
];

impl Told {
    fn fault_for(&mut self, request: &Request<Incoming>) -> Option<Fault> {
        self.seen.push(format!("{} {}", request.method(), request.uri()));
        let hit = self.faults.iter_mut().find(|(to, _, left)| *left > 0 && to.is(request));
        if let Some((_, fault, left)) = hit {
            *left -= 1;
            return Some(*fault);
        }
        // Who is refused at the door meets nothing behind it.
        if request.uri().path().contains("/probe/") {
            return None;
        }
        if self.always.is_some() {
            return self.always;
        }
        let (state, of_thousand) = self.chance.as_mut()?;
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = *state >> 33;
        let fault = BY_CHANCE[(drawn / 1000) as usize % BY_CHANCE.len()];
        // What the service says of itself arrives as it was said: only objects are flipped.
        let fits = fault != Fault::FlippedAnswer || To::Get.is(request);
        Some(fault).filter(|_| drawn % 1000 < *of_thousand && fits)
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn body(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

/// An answer of the service's own making.
fn answers(status: u16, code: &str, head: bool) -> Answer {
    let xml = format!("<Error><Code>{code}</Code><Message>so it was told</Message></Error>");
    let mut answer = Response::new(body(if head { Bytes::new() } else { xml.into() }));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn stale_list() -> Answer {
    let xml = "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount>\
               </ListBucketResult>";
    Response::new(body(Bytes::from_static(xml.as_bytes())))
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x20;
    }
    bytes.into()
}

async fn pass(
    server: SocketAddr,
    request: Request<Incoming>,
    fault: Option<Fault>,
) -> io::Result<Answer> {
    let head = request.method() == Method::HEAD;
    match fault {
        Some(Fault::Answers(status, code)) => {
            // A server takes what is sent before it says no.
            drop(request.into_body().collect().await);
            return Ok(answers(status, code, head));
        }
        Some(Fault::LostRequest) => return Err(gone()),
        Some(Fault::StaleList) => return Ok(stale_list()),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let (parts, sent) = request.into_parts();
    let mut sent = sent.collect().await.map_err(io::Error::other)?.to_bytes();
    if fault == Some(Fault::FlippedRequest) {
        sent = flipped(&sent);
    }
    let (mut parts, mut given) = ask(server, Request::from_parts(parts, Full::new(sent))).await?;
    parts.headers.remove(TRANSFER_ENCODING);
    match fault {
        Some(Fault::LostReply) => return Err(gone()),
        Some(Fault::FlippedAnswer) => given = flipped(&given),
        Some(Fault::WrongSum) => {
            if let Some(sum) = parts.headers.get_mut("x-amz-checksum-crc32c") {
                *sum = HeaderValue::from_static("AAAAAA==");
            }
        }
        Some(Fault::CutAnswer) if !head => {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(given.len() + 1));
            let half = given.slice(..given.len() / 2);
            // Later, so that the first half has left: else the client would see no answer at all.
            let later = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(gone())
            };
            let pieces = stream::once(async { Ok(Frame::data(half)) }).chain(stream::once(later));
            let cut = StreamBody::new(pieces);
            return Ok(Response::from_parts(parts, BodyExt::boxed(cut)));
        }
        _ => {}
    }
    Ok(Response::from_parts(parts, body(given)))
}

/// Passes a request on, over a connection of its own.
async fn ask(
    server: SocketAddr,
    request: Request<Full<Bytes>>,
) -> io::Result<(hyper::http::response::Parts, Bytes)> {
    let socket = TcpStream::connect(server).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, given) = answer.into_parts();
    let given = given.collect().await.map_err(io::Error::other)?.to_bytes();
    driving.abort();
    Ok((parts, given))
}
