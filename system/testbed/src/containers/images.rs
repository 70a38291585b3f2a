//! Which image serves which backend: local ones of the build script unless a variable names another.

/// Image references. The defaults are what `system/testbed/images/build` makes; official images of the same layout serve too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Kafka: `CHATSTORM_IMAGE_KAFKA`.
    pub kafka: String,
    /// Redis: `CHATSTORM_IMAGE_REDIS`.
    pub redis: String,
    /// Cassandra: `CHATSTORM_IMAGE_CASSANDRA`.
    pub cassandra: String,
    /// An S3 server: `CHATSTORM_IMAGE_S3`.
    pub s3: String,
    /// Toxiproxy: `CHATSTORM_IMAGE_TOXIPROXY`.
    pub toxiproxy: String,
    /// The chat nodes: `CHATSTORM_IMAGE_NODE`. It has to hold the very binary that starts it, and is checked apart from the others.
    pub node: String,
}

impl Images {
    /// The defaults, each replaced by what `variable` answers for its name.
    pub fn with(variable: impl Fn(&str) -> Option<String>) -> Self {
        let image = |name: &str, local: &str| {
            let named = variable(&format!("CHATSTORM_IMAGE_{name}"));
            named.filter(|named| !named.is_empty()).unwrap_or_else(|| local.to_owned())
        };
        Self {
            kafka: image("KAFKA", "chatstorm/kafka:4.1.0"),
            redis: image("REDIS", "chatstorm/redis:7"),
            cassandra: image("CASSANDRA", "chatstorm/cassandra:5.0.5"),
            s3: image("S3", "chatstorm/versitygw:1.8.0"),
            toxiproxy: image("TOXIPROXY", "chatstorm/toxiproxy:2.12.0"),
            node: image("NODE", "chatstorm/node:this"),
        }
    }

    /// The backends: (what the build script calls it, reference).
    pub fn all(&self) -> [(&'static str, &str); 5] {
        [
            ("kafka", &self.kafka),
            ("redis", &self.redis),
            ("cassandra", &self.cassandra),
            ("versitygw", &self.s3),
            ("toxiproxy", &self.toxiproxy),
        ]
    }
}

impl Default for Images {
    fn default() -> Self {
        Self::with(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_replaces_one_image_and_an_empty_one_none() {
        let images = Images::with(|name| match name {
            "CHATSTORM_IMAGE_REDIS" => Some("redis:7.4".to_owned()),
            "CHATSTORM_IMAGE_KAFKA" => Some(String::new()),
            _ => None,
        });
        assert_eq!(images.redis, "redis:7.4");
        assert_eq!(images.kafka, Images::default().kafka);
    }
}
