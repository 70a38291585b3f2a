//! Whether the image of the chat nodes holds this very binary: a verdict about another build would be none.
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bollard::errors::Error as BollardError;
use sha2::{Digest as _, Sha256};

use super::super::engine::{Engine, EngineError, refused};
use super::super::images::Images;

/// Label of the image: the SHA-256 of the binary that it was built from, in hexadecimal digits.
const BINARY: &str = "chatstorm.binary";
/// The running binary, also when its file has been replaced since.
const THIS: &str = "/proc/self/exe";

/// Refuses to start nodes from another build than this process.
pub async fn preflight(images: &Images) -> Result<(), EngineError> {
    let engine = Engine::connect().await?;
    let found = match engine.docker.inspect_image(&images.node).await {
        Ok(found) => found,
        Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => {
            return Err(other(&images.node));
        }
        Err(error) => return Err(refused("look at its images")(error)),
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    let unreadable = |error: io::Error| EngineError::Refused {
        act: "compare binaries".to_owned(),
        why: error.to_string(),
    };
    let hashed = tokio::task::spawn_blocking(|| hash(Path::new(THIS))).await;
    let this = hashed.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(unreadable)?;
    if labels.get(BINARY) == Some(&this) { Ok(()) } else { Err(other(&images.node)) }
}

fn other(image: &str) -> EngineError {
    let binary = std::env::current_exe().map(|path| path.display().to_string());
    EngineError::OtherNode {
        image: image.to_owned(),
        binary: binary.unwrap_or_else(|_| "target/release/chatstorm".to_owned()),
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    let mut digits = String::with_capacity(64);
    for byte in hash.finalize() {
        write!(digits, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_sha256sum_says() {
        let file = std::env::temp_dir().join(format!("chatstorm-hash-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&file).unwrap(), digits);
        std::fs::remove_file(&file).unwrap();
    }
}
