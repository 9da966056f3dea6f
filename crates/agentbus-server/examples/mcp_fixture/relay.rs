//! A relay that adds the token to every request.

use std::io;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Listens on loopback, and passes on what comes. It runs until the program ends.
pub(crate) async fn start(to: SocketAddr, token: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(io::Error::other)?;
    let client: Client<HttpConnector, Incoming> =
        Client::builder(TokioExecutor::new()).build_http();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, bearer) = (client.clone(), bearer.clone());
            let pass = service_fn(move |request| pass(client.clone(), bearer.clone(), to, request));
            tokio::spawn(async move {
                // A client that leaves early takes its own request along.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), pass)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn pass(
    client: Client<HttpConnector, Incoming>,
    bearer: HeaderValue,
    to: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Error> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let Ok(uri) = format!("http://{to}{path}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(AUTHORIZATION, bearer);
    client.request(request).await
}
