//! What the servers say of their version as they start: an image's name proves nothing, and not every protocol has the question.
use std::collections::BTreeMap;

use futures_util::future;

use super::acts::LOG_LIMIT;
use super::engine::Engine;
use super::recipe::Layout;

/// What stands before the version in the log of a server, by how its name begins.
const MARKERS: [(&str, &str); 5] = [
    ("kafka", "Kafka version: "),
    ("cassandra", "Cassandra version: "),
    ("redis", "Redis version="),
    ("s3", "Version "),
    ("toxiproxy", "\"version\":\""),
];

/// The version of each server by its name. One that does not say it is left out, and the log says so.
pub(super) async fn of(
    engine: &Engine,
    layout: &Layout,
    servers: impl Iterator<Item = &'static str>,
) -> BTreeMap<String, String> {
    let asked = servers.map(|server| async move {
        let log = tokio::time::timeout(LOG_LIMIT, engine.log(&layout.name(server))).await;
        let version = log.ok().and_then(|log| version_in(server, &String::from_utf8_lossy(&log)));
        if version.is_none() {
            tracing::warn!(server, "The server does not say its version.");
        }
        Some((server.to_owned(), version?))
    });
    future::join_all(asked).await.into_iter().flatten().collect()
}

/// The first word after the marker, without what closes a sentence.
fn version_in(server: &str, log: &str) -> Option<String> {
    let (_, marker) = MARKERS.iter().find(|(prefix, _)| server.starts_with(prefix))?;
    let (_, rest) = log.split_once(marker)?;
    let word = rest.split([' ', ',', '"', '\n', '\r']).next().unwrap_or_default();
    (!word.is_empty()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn servers_say_their_version_each_in_its_way() {
        let said = [
            ("kafka-2", "x\n[main] INFO  AppInfoParser - Kafka version: 4.1.0\nmore", "4.1.0"),
            ("cassandra", "[main] StorageService - Cassandra version: 5.0.5\n", "5.0.5"),
            ("redis", "# Redis version=7.0.15, bits=64, just started", "7.0.15"),
            ("s3", "│            Version v1.8.0, Build norev, BuildTime none │", "v1.8.0"),
            ("toxiproxy", r#"{"level":"info","version":"2.12.0","message":"Starting"}"#, "2.12.0"),
        ];
        for (server, log, version) in said {
            assert_eq!(version_in(server, log).as_deref(), Some(version), "{server}");
        }
        for log in ["", "Redis version=", "no word of it"] {
            assert_eq!(version_in("redis", log), None, "{log:?}");
        }
    }
}
