//! A receiver of OTLP/HTTP with TLS, and a reader of what it gets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver as Requests, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::DESCRIPTORS;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// What it says to one request; to all that come after the last it says 200.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'static str>,
    /// Points that it claims to have left out, and why.
    pub(crate) rejected: Option<(i64, &'static str)>,
}

/// A request that came.
pub(crate) struct Got {
    pub(crate) at: Instant,
    /// Method, path, content type and authorization.
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) ca_file: PathBuf,
    pub(crate) requests: Requests<Got>,
}

impl Receiver {
    /// Listens in a thread of its own until the process ends.
    pub(crate) fn start(folder: &Path, answers: Vec<Answer>) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let ca_file = folder.join("receiver.pem");
        fs::write(&ca_file, made.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, requests) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, TlsAcceptor::from(Arc::new(tls)), answers, got));
        });
        Self { port, ca_file, requests }
    }
}

async fn serve(listener: std::net::TcpListener, tls: TlsAcceptor, answers: Vec<Answer>, got: Sender<Got>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = tls.accept(stream).await else { continue };
        let service = service_fn(|request: Request<Incoming>| {
            let (answers, got) = (Arc::clone(&answers), got.clone());
            async move {
                let (head, body) = request.into_parts();
                let header = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap());
                let line = format!(
                    "{} {} {} {}",
                    head.method,
                    head.uri.path(),
                    header("content-type"),
                    header("authorization")
                );
                let body = body.collect().await.unwrap().to_bytes();
                let _ = got.send(Got { at: Instant::now(), head: line, body });
                let ok = Answer { status: 200, retry_after: None, rejected: None };
                let next = answers.lock().unwrap().next();
                Ok::<_, Infallible>(answer(&next.unwrap_or(ok)))
            }
        });
        // One request a connection, one after the other.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

fn answer(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(answer.status);
    if let Some(seconds) = answer.retry_after {
        response = response.header("Retry-After", seconds);
    }
    let mut body = empty("ExportMetricsServiceResponse");
    if let Some((points, why)) = answer.rejected {
        let mut partial = empty("ExportMetricsPartialSuccess");
        partial.set_field_by_name("rejected_data_points", Value::I64(points));
        partial.set_field_by_name("error_message", Value::String(why.to_owned()));
        body.set_field_by_name("partial_success", Value::Message(partial));
    }
    response.body(Full::new(body.encode_to_vec().into())).unwrap()
}

fn empty(message: &str) -> DynamicMessage {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let name = format!("opentelemetry.proto.collector.metrics.v1.{message}");
    DynamicMessage::new(pool.get_message_by_name(&name).unwrap())
}

/// A point as it came.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) value: Value,
    pub(crate) is_monotonic_sum: bool,
    pub(crate) start_ns: u64,
    pub(crate) at_ns: u64,
}

/// The attributes of the resource of a request, and its points by name and attributes.
pub(crate) fn points(request: &[u8]) -> (BTreeMap<String, String>, BTreeMap<String, Point>) {
    let mut message = empty("ExportMetricsServiceRequest");
    message.merge(request).unwrap();
    let [of_resource] = &list(&message, "resource_metrics")[..] else { panic!("one resource: {message:?}") };
    let [of_scope] = &list(of_resource, "scope_metrics")[..] else { panic!("one scope: {of_resource:?}") };
    let mut points = BTreeMap::new();
    for metric in list(of_scope, "metrics") {
        let name = text(&metric, "name");
        let is_sum = metric.has_field_by_name("sum");
        let data = part(&metric, if is_sum { "sum" } else { "gauge" });
        let is_monotonic_sum = is_sum
            && field(&data, "is_monotonic") == Value::Bool(true)
            && field(&data, "aggregation_temporality") == Value::EnumNumber(2);
        for point in list(&data, "data_points") {
            let attributes = attributes(&point).into_iter().map(|(key, value)| format!("{key}={value}"));
            let series = format!("{name}{{{}}}", attributes.collect::<Vec<_>>().join(","));
            let value = field(&point, if point.has_field_by_name("as_int") { "as_int" } else { "as_double" });
            let ns = |name| field(&point, name).as_u64().unwrap();
            let (start_ns, at_ns) = (ns("start_time_unix_nano"), ns("time_unix_nano"));
            points.insert(series, Point { value, is_monotonic_sum, start_ns, at_ns });
        }
    }
    (attributes(&part(of_resource, "resource")), points)
}

fn attributes(of: &DynamicMessage) -> BTreeMap<String, String> {
    let value = |pair: &DynamicMessage| {
        let value = part(pair, "value");
        if value.has_field_by_name("int_value") {
            field(&value, "int_value").as_i64().unwrap().to_string()
        } else {
            text(&value, "string_value")
        }
    };
    list(of, "attributes").iter().map(|pair| (text(pair, "key"), value(pair))).collect()
}

fn field(of: &DynamicMessage, name: &str) -> Value {
    of.get_field_by_name(name).expect(name).into_owned()
}

fn text(of: &DynamicMessage, name: &str) -> String {
    field(of, name).as_str().unwrap().to_owned()
}

fn part(of: &DynamicMessage, name: &str) -> DynamicMessage {
    field(of, name).as_message().unwrap().clone()
}

fn list(of: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    field(of, name).as_list().unwrap().iter().map(|value| value.as_message().unwrap().clone()).collect()
}
