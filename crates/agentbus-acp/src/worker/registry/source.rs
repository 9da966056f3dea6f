//! Where the index comes from: a file, or a URL with a copy of the last one on disk.

use std::path::Path;

use tokio::time::timeout;

use super::index::Index;
use super::{RegistryError, RegistryOptions};
use crate::worker::limits::{INDEX_BYTES_MAX, INDEX_TIMEOUT};
use crate::worker::web;

/// Reads the index, with the agents of one's own laid over it.
pub(super) async fn index(options: &RegistryOptions) -> Result<Index, RegistryError> {
    let mut index = match &options.registry {
        None => Index::default(),
        Some(source) if source.contains("://") => of_url(source, options).await?,
        Some(path) => of_file(Path::new(path))?,
    };
    if let Some(path) = &options.custom_agents {
        index.lay(of_file(path)?);
    }
    Ok(index)
}

fn of_file(path: &Path) -> Result<Index, RegistryError> {
    let unusable = |why: String| RegistryError::Index {
        place: path.display().to_string(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    Index::parse(&text).map_err(unusable)
}

/// Fetches the index and keeps it; what was kept serves when it cannot be fetched.
async fn of_url(url: &str, options: &RegistryOptions) -> Result<Index, RegistryError> {
    let kept = options.data_directory.join("registry.json");
    if options.offline {
        return of_file(&kept);
    }
    let fetched = timeout(INDEX_TIMEOUT, fetch(url)).await;
    let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    let read = fetched.and_then(|text| Ok((Index::parse(&text)?, text)));
    match read {
        Ok((index, text)) => {
            let written = std::fs::create_dir_all(&options.data_directory);
            if let Err(error) = written.and_then(|()| std::fs::write(&kept, text)) {
                tracing::warn!(%error, "the index of the registry cannot be kept");
            }
            Ok(index)
        }
        Err(why) if kept.is_file() => {
            tracing::warn!(
                url,
                why,
                "the registry cannot be read; using the copy of last time"
            );
            of_file(&kept)
        }
        Err(why) => Err(RegistryError::Index {
            place: url.to_owned(),
            why,
        }),
    }
}

async fn fetch(url: &str) -> Result<String, String> {
    let answer = web::fetch(url).await?;
    let text = web::read(answer, INDEX_BYTES_MAX).await?;
    String::from_utf8(text).map_err(|error| error.to_string())
}
