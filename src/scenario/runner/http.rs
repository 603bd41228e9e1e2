//! One HTTP request without TLS, for probes.
//!
//! Must not know: what is asked. Invariant: a request never takes longer than it may.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The most that is read of an answer.
const BODY_LIMIT: usize = 1 << 20;

/// Status and body of `GET url` (`http://HOST[:PORT]/PATH`); `None` if no answer came in time.
pub(super) fn get(url: &str, within: Duration) -> Option<(u16, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(within, request(url)).await.ok()? })
}

async fn request(url: &str) -> Option<(u16, Vec<u8>)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port =
        authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) && authority.contains(':');
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let stream = TcpStream::connect(&address).await.ok()?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get(format!("/{path}")).header(header::HOST, authority).body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await.ok()?;
    Some((status, body.to_bytes().to_vec()))
}

/// `text` as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encoded("up{job=\"a\"} > 0"), "up%7Bjob%3D%22a%22%7D%20%3E%200");
    }

    #[test]
    fn no_answer_is_none() {
        assert_eq!(get("http://127.0.0.1:1/", Duration::from_secs(2)), None);
        assert_eq!(get("ftp://x", Duration::from_secs(2)), None);
    }
}
