//! What `wal dev` says when it is ready: where everything is, and what to try next.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::paint::{Paint, Tone};
use crate::problem::Problem;
use crate::screen::{Format, Screen};

/// The gateway's address if nothing is said.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8080";
/// Where `wal status` asks if nothing is said.
const DEFAULT_PROBES: &str = "127.0.0.1:9464";
/// The cluster's address if nothing is said.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";

/// What is running.
pub struct Banner<'a> {
    /// Where the cluster is.
    pub bootstrap: String,
    /// Whether it is the embedded one.
    pub is_embedded: bool,
    /// Where the gateway is.
    pub gateway: String,
    /// Where probes, metrics and the status are.
    pub probes: Option<SocketAddr>,
    /// The folder that keeps everything; `None` if nothing is kept.
    pub folder: Option<&'a Path>,
    /// How long the start took.
    pub ready_after: Duration,
}

/// The same for a script. Printed, keep stable.
#[derive(Serialize)]
struct BannerJson<'a> {
    event: &'static str,
    bootstrap: &'a str,
    gateway: &'a str,
    health: Option<SocketAddr>,
    data: Option<&'a Path>,
    ready_after_ms: u128,
}

impl Banner<'_> {
    /// Shows it.
    pub fn show(&self, screen: &Screen) -> Result<(), Problem> {
        match screen.format {
            Format::Table => screen.line(&self.text(screen.out)),
            Format::Json => screen.json(&BannerJson {
                event: "ready",
                bootstrap: &self.bootstrap,
                gateway: &self.gateway,
                health: self.probes,
                data: self.folder,
                ready_after_ms: self.ready_after.as_millis(),
            }),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let kind = if self.is_embedded { "embedded, speaks Kafka's protocol" } else { "your cluster" };
        let data = match self.folder {
            Some(folder) => folder.display().to_string(),
            None => "nothing is kept (--ephemeral)".to_owned(),
        };
        let probes = self.probes.map(|address| address.to_string());
        let facts = [
            Some(("broker", self.bootstrap.as_str(), kind)),
            Some(("gateway", &self.gateway, "HTTP: look up, answer, cancel, rescue")),
            probes.as_deref().map(|address| ("health", address, "probes, metrics, status")),
            Some(("data", &data, "")),
        ];
        let title = format!("wal dev is ready after {:.1} s", self.ready_after.as_secs_f64());
        let mut lines = vec![(Tone::Strong, title), (Tone::Plain, String::new())];
        for (name, value, remark) in facts.into_iter().flatten() {
            lines.push((Tone::Plain, format!("{name:<9} {value:<24} {remark}").trim_end().to_owned()));
        }
        lines.push((Tone::Plain, String::new()));
        lines.push((Tone::Faint, "One process, no authentication: for development. Ctrl-C stops it.".to_owned()));
        let mut text = boxed(&lines, paint);
        text.push_str("\n\nIn another terminal:\n");
        for command in self.commands() {
            text.push_str(&format!("\n  {}", paint.tone(Tone::Name, &command)));
        }
        text.push('\n');
        text
    }

    /// Commands to copy; options only where the defaults would not find us.
    fn commands(&self) -> Vec<String> {
        let kafka = match self.bootstrap.as_str() {
            DEFAULT_BOOTSTRAP => String::new(),
            other => format!(" --bootstrap {other}"),
        };
        let gateway = match self.gateway.as_str() {
            DEFAULT_GATEWAY => String::new(),
            other => format!(" --gateway {other}"),
        };
        let status = self.probes.map(|address| match address.to_string().as_str() {
            DEFAULT_PROBES => "wal status".to_owned(),
            other => format!("wal status --at {other}"),
        });
        let commands = [
            format!("wal tail{kafka} order_events"),
            format!(r#"wal write{kafka} orders --target order_events --payload '{{"operation":"create_order"}}'"#),
            format!("wal complete{gateway} LOG_ID"),
            format!("wal entry show{gateway} LOG_ID"),
            format!("wal entry list{gateway} orders --from -1h"),
        ];
        commands.into_iter().chain(status).collect()
    }
}

fn boxed(lines: &[(Tone, String)], paint: Paint) -> String {
    let width = lines.iter().map(|(_, line)| line.chars().count()).max().unwrap_or_default();
    let border = |text: String| paint.tone(Tone::Faint, &text);
    let rule = "─".repeat(width + 4);
    let mut text = border(format!("╭{rule}╮"));
    for (tone, line) in lines {
        let space = " ".repeat(width - line.chars().count());
        let side = border("│".to_owned());
        text.push_str(&format!("\n{side}  {}{space}  {side}", paint.tone(*tone, line)));
    }
    text.push_str(&format!("\n{}", border(format!("╰{rule}╯"))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(bootstrap: &str, gateway: &str, probes: &str) -> Banner<'static> {
        Banner {
            bootstrap: bootstrap.into(),
            is_embedded: true,
            gateway: gateway.into(),
            probes: Some(probes.parse().unwrap()),
            folder: Some(Path::new("/var/lib/wal")),
            ready_after: Duration::from_millis(4321),
        }
    }

    #[test]
    fn the_box_is_straight_and_fits_a_terminal() {
        let text = banner("127.0.0.1:9092", "http://127.0.0.1:8080", "127.0.0.1:9464").text(Paint::plain());
        let widths: Vec<_> =
            text.lines().take_while(|line| !line.is_empty()).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= 80), "{text}");
        assert!(text.contains("ready after 4.3 s") && text.contains("/var/lib/wal"));
    }

    #[test]
    fn commands_name_only_what_is_not_default() {
        let text = banner("127.0.0.1:9092", "http://127.0.0.1:8080", "127.0.0.1:9464").text(Paint::plain());
        assert!(
            text.contains("  wal tail order_events") && !text.contains("--bootstrap") && !text.contains("--gateway")
        );
        assert!(text.contains("  wal status\n"), "{text}");
        let text = banner("127.0.0.1:19092", "http://127.0.0.1:1", "127.0.0.1:2").text(Paint::plain());
        assert!(text.contains("wal tail --bootstrap 127.0.0.1:19092 order_events"), "{text}");
        assert!(text.contains("wal entry show --gateway http://127.0.0.1:1 LOG_ID"), "{text}");
        assert!(text.contains("wal status --at 127.0.0.1:2"), "{text}");
    }
}
