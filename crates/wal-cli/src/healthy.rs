//! `wal healthy`: a health check where there is no curl, such as in an image that holds nothing but our binaries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use wal_runtime::config::{self, Settings};

use crate::args::Healthy;
use crate::gateway::Gateway;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};
use crate::settings::invalid;

/// Asks whether a service is ready, and shows what it lacks if it is not.
pub async fn run(screen: &Screen, settings: &Settings, healthy: &Healthy) -> Result<Exit, Problem> {
    let url = match &healthy.url {
        Some(url) => url.clone(),
        None => own_url(settings)?,
    };
    let (is_ready, body) = Gateway::at(&url)?.probe("/readyz").await?;
    let report: Value = serde_json::from_slice(&body).unwrap_or_default();
    match screen.format {
        Format::Json => screen.json(&report)?,
        Format::Table if is_ready => screen.line("ready")?,
        Format::Table => screen.line(&format!("not ready: {report}"))?,
    }
    Ok(if is_ready { Exit::Done } else { Exit::Failed })
}

fn own_url(settings: &Settings) -> Result<String, Problem> {
    let address = own_address(settings, "say where: wal healthy http://host:port")?;
    Ok(format!("http://{address}"))
}

/// Where this machine's service answers probes, by the settings; else a hint where to say it.
pub fn own_address(settings: &Settings, hint: &str) -> Result<SocketAddr, Problem> {
    let health = config::Health::read(settings).map_err(|error| invalid(&error))?;
    let listen =
        health.listen.ok_or_else(|| Problem::usage("find the probes: `health.listen` turns them off").hint(hint))?;
    Ok(reachable(listen))
}

/// Who listens on all addresses of a machine is found on its loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback = match listen.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    if listen.ip().is_unspecified() { SocketAddr::new(loopback, listen.port()) } else { listen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_found_on_loopback() {
        let of = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(of("[::]:9464"), "[::1]:9464");
        assert_eq!(of("10.1.2.3:9464"), "10.1.2.3:9464");
    }
}
