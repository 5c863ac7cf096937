//! `token-monitor health`: asks a running monitor whether it lives, for containers, whose image holds no curl.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{self, Flags, address};

/// Whoever lives answers at once; less than the five seconds that the image's health check may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// So much of the answer holds its status.
const STATUS_LINE: u64 = 64;

/// Asks `/healthz` at `LISTEN`. Exit 0 if it answers, 1 if not, 2 if `LISTEN` is no address.
pub fn run(flags: &Flags) -> ExitCode {
    let listen = flags.listen.as_deref().filter(|listen| !listen.is_empty());
    let address = match address::listen(listen.unwrap_or(config::LISTEN)) {
        Ok(address) => address,
        Err(why) => {
            eprintln!("LISTEN {why}; accepted: {}", address::ACCEPTED);
            return ExitCode::from(2);
        }
    };
    let address = reachable(address);
    match ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("http://{address}/healthz: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Where a server that listens at `listen` can be asked: "every address" is none to connect to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// In plain HTTP, without the threads and certificates of a client: this runs every few seconds.
fn ask(address: SocketAddr) -> Result<(), String> {
    let said = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(STATUS_LINE).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let said = said().map_err(|error| error.to_string())?;
    let status = said.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("answers `{status}`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Answers one connection with a text, at the address returned.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer.as_bytes()).expect("an answer");
        });
        address
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        assert_eq!(reachable(address("0.0.0.0:3002")), address("127.0.0.1:3002"));
        assert_eq!(reachable(address("[::]:80")), address("[::1]:80"));
        assert_eq!(reachable(address("10.0.0.7:3002")), address("10.0.0.7:3002"));
    }

    #[test]
    fn only_200_is_health() {
        assert_eq!(ask(server("HTTP/1.1 200 OK\r\n\r\nok\n")), Ok(()));
        let busy = ask(server("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
        assert_eq!(busy, Err("answers `HTTP/1.1 503 Service Unavailable`".to_owned()));
        assert!(ask(server("220 mail\r\n")).is_err());
        assert!(ask(server("")).is_err());
    }
}
