//! Owns opening the three ports, with sentences for the person whose port is taken.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use crate::config::{Config, Port};
use crate::sys::socket;

/// The open ports; admin and metrics may be off.
#[derive(Debug)]
pub struct Listeners {
    pub kafka: TcpListener,
    pub kafka_address: SocketAddr,
    pub admin: Option<TcpListener>,
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Opens them all, or says in one sentence which cannot be opened and what to do.
    pub fn open(config: &Config) -> Result<Listeners, String> {
        let kafka = open("Kafka clients", "--kafka-port", &config.bind_host, config.kafka_port)?;
        let Some(kafka) = kafka else { return Err("the Kafka port cannot be off".into()) };
        let admin = open("administration", "--admin-port", &config.admin_bind_host, config.admin_port)?;
        let metrics = open("metrics", "--metrics-port", &config.metrics_bind_host, config.metrics_port)?;
        let kafka_address = kafka.local_addr().map_err(|error| format!("cannot use the Kafka port: {error}"))?;
        Ok(Listeners { kafka, kafka_address, admin, metrics })
    }
}

fn open(what: &str, option: &str, host: &str, port: Port) -> Result<Option<TcpListener>, String> {
    let number = match port {
        Port::Off => return Ok(None),
        Port::Any => 0,
        Port::Fixed(number) => number,
    };
    let addresses = (host, number)
        .to_socket_addrs()
        .map_err(|error| format!("cannot listen for {what}: the host {host} is not known ({error})"))?;
    let mut failure = format!("cannot listen for {what}: the host {host} has no address");
    for address in addresses {
        match socket::listen(address) {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => failure = sentence(what, option, address, &error),
        }
    }
    Err(failure)
}

fn sentence(what: &str, option: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "cannot listen on {address} for {what}: the port is taken; {option} chooses another, 0 any free one"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "cannot listen on {address} for {what}: ports below 1024 need a privilege; {option} chooses another"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot listen on {address} for {what}: this machine does not have that address")
        }
        _ => format!("cannot listen on {address} for {what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            bind_host: "127.0.0.1".into(),
            kafka_port: Port::Any,
            admin_port: Port::Any,
            metrics_port: Port::Off,
            ..Config::default()
        }
    }

    #[test]
    fn ports_are_opened_or_left_out() {
        let listeners = Listeners::open(&config()).unwrap();
        assert_ne!(listeners.kafka_address.port(), 0);
        assert!(listeners.admin.is_some() && listeners.metrics.is_none());
    }

    #[test]
    fn a_taken_port_is_named_with_its_option() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Listeners::open(&Config { kafka_port: Port::Fixed(port), ..config() }).unwrap_err();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--kafka-port"), "{error}");
        let error = Listeners::open(&Config { admin_port: Port::Fixed(port), ..config() }).unwrap_err();
        assert!(error.contains("administration") && error.contains("--admin-port"), "{error}");
    }

    #[test]
    fn a_foreign_address_is_a_sentence() {
        let error = Listeners::open(&Config { bind_host: "192.0.2.1".into(), ..config() }).unwrap_err();
        assert!(error.contains("does not have that address"), "{error}");
    }
}
