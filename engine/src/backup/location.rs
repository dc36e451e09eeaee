//! Where backups are: a URL, the object store behind it, and its errors as ours.
//!
//! ```text
//!   s3://bucket/a/prefix      S3, or what speaks like it at AWS_ENDPOINT_URL
//!   file:///mnt/backups       a directory, through the same code
//! ```
//!
//! Credentials come from the environment alone (`AWS_…`), and nothing that could hold them gets into an error.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};

use crate::error::{Error, Result};

/// Of one part of a file, the connection made.
const REQUEST_TIMEOUT: &str = "120 seconds";
const RETRIES_MAX: usize = 6;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// A place for backups. Cheap to clone.
#[derive(Clone)]
pub struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    /// Of `file://`.
    pub(super) directory: Option<PathBuf>,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.url)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Whether this names an object store, and not a directory by its path.
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

impl Location {
    /// Looks at nothing yet but the environment. Errors: 22023 for what is no such URL.
    pub fn parse(url: &str) -> Result<Location> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => Self::s3(rest),
            "file" => Self::file(rest),
            // What stands before the colon may be anything, a password's part among it.
            _ => Err(Error::invalid_value("backups go to s3://bucket/prefix or file:///directory")),
        }
    }

    fn s3(rest: &str) -> Result<Location> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') || rest.contains('?') || rest.contains('#') {
            return Err(Error::invalid_value("an s3 URL is s3://bucket/prefix, nothing else")
                .hint("Credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."));
        }
        if bucket.is_empty() {
            return Err(Error::invalid_value("an s3 URL names a bucket: s3://bucket/prefix"));
        }
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        if std::env::var_os("AWS_TIMEOUT").is_none() {
            builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT);
        }
        let url = format!("s3://{bucket}/{}", prefix.trim_matches('/'));
        let store = builder.build().map_err(|e| failed(&url, "set up", &e))?;
        let prefix = Path::parse(prefix).map_err(|_| Error::invalid_value(format!("\"{url}\" is no s3 URL")))?;
        Ok(Location { store: Arc::new(store), prefix, url: url.trim_end_matches('/').into(), directory: None })
    }

    fn file(rest: &str) -> Result<Location> {
        let directory = PathBuf::from(rest);
        if !directory.is_absolute() {
            return Err(Error::invalid_value("a file URL has three slashes and an absolute path: file:///directory"));
        }
        let url = format!("file://{}", directory.display());
        // Its root is the file system's: the directory need not be there yet.
        let store = LocalFileSystem::new();
        let prefix = Path::from_absolute_path(&directory).ok();
        // Not every name comes through as it is.
        let same = |prefix: &Path| store.path_to_filesystem(prefix).is_ok_and(|path| path == directory);
        let prefix = prefix.filter(same);
        let prefix = prefix.ok_or_else(|| Error::invalid_value(format!("\"{url}\" is no directory for backups")))?;
        Ok(Location { store: Arc::new(store), prefix, url, directory: Some(directory) })
    }

    /// For tests: the same over any object store.
    #[cfg(test)]
    pub(super) fn of_store(store: Arc<dyn ObjectStore>) -> Location {
        Location { store, prefix: Path::from("some/prefix"), url: "test://".into(), directory: None }
    }

    pub(super) fn path(&self, folder: &str, name: &str) -> Path {
        self.prefix.clone().join(folder).join(name)
    }

    /// What lies in a folder: names without it.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let folder = self.prefix.clone().join(folder);
        let listed = self.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| self.error("list", &e))?;
        let named = listed.into_iter().filter_map(|meta| Some((meta.location.filename()?.to_string(), meta)));
        Ok(named.collect())
    }

    pub(super) async fn put(&self, folder: &str, name: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        let path = self.path(folder, name);
        self.store.put(&path, bytes.into()).await.map_err(|e| self.error("write to", &e))?;
        self.sync(&path).await
    }

    /// `None` where there is no such object.
    pub(super) async fn get(&self, folder: &str, name: &str) -> Result<Option<bytes::Bytes>> {
        let read = async { self.store.get(&self.path(folder, name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("read", &e)),
        }
    }

    /// Nothing is wrong when it has gone already.
    pub(super) async fn delete(&self, folder: &str, name: &str) -> Result<()> {
        match self.store.delete(&self.path(folder, name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("delete from", &e)),
        }
    }

    /// Object stores keep what they have taken; a file system has to be told.
    pub(super) async fn sync(&self, path: &Path) -> Result<()> {
        if self.directory.is_none() {
            return Ok(());
        }
        let file = LocalFileSystem::new().path_to_filesystem(path).map_err(|e| self.error("write to", &e))?;
        let sync = move || -> std::io::Result<()> {
            std::fs::File::open(&file)?.sync_all()?;
            std::fs::File::open(file.parent().expect("it lies in a folder"))?.sync_all()
        };
        let synced = tokio::task::spawn_blocking(sync).await.map_err(Error::internal)?;
        synced.map_err(|e| Error::io(format!("cannot write to \"{}\": {e}", self.url)))
    }

    pub(super) fn error(&self, doing: &str, e: &object_store::Error) -> Error {
        failed(&self.url, doing, e)
    }
}

fn failed(url: &str, doing: &str, e: &object_store::Error) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let code = match e {
        NotFound { .. } => "58P01",
        PermissionDenied { .. } | Unauthenticated { .. } => "42501",
        _ => "58030",
    };
    // An error says little, what it comes from says why.
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    let secrets = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let secrets = secrets.iter().filter_map(|name| std::env::var(name).ok());
    let error = Error::new(code, format!("cannot {doing} \"{url}\"")).detail(told(&text, secrets));
    match code {
        "42501" => error.hint(
            "The server takes credentials from its environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
             AWS_SESSION_TOKEN, or the machine's role.",
        ),
        _ => error,
    }
}

/// What may be told of an error: of an answer in XML, which repeats the request's signature, code and message alone.
fn told(text: &str, secrets: impl Iterator<Item = String>) -> String {
    let within = |tag: &str| {
        let after = text.split_once(&format!("<{tag}>"))?.1;
        Some(after.split_once(&format!("</{tag}>"))?.0.to_string())
    };
    let start = ["<?xml", "<Error>"].iter().filter_map(|mark| text.find(mark)).min();
    let mut told = match start {
        None => text.to_string(),
        Some(start) => {
            let answer: Vec<String> = ["Code", "Message"].iter().filter_map(|tag| within(tag)).collect();
            format!("{}{}", &text[..start], answer.join(": "))
        }
    };
    // Shorter ones are no secrets, and words of other meanings.
    for secret in secrets.filter(|secret| secret.len() >= 8) {
        told = told.replace(&secret, "…");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parsed = |url: &str| Location::parse(url).map(|l| l.to_string());
        assert_eq!(parsed("s3://bucket/a/b/").unwrap(), "s3://bucket/a/b");
        assert_eq!(parsed("s3://bucket").unwrap(), "s3://bucket");
        assert_eq!(parsed("file:///a/b").unwrap(), "file:///a/b");
        for refused in ["s3://", "s3:///a", "file://a", "http://a/b", "s3://b/p?x=1"] {
            assert_eq!(parsed(refused).unwrap_err().code, "22023", "{refused}");
        }
        let error = Location::parse("s3://AKIAIOSFODNN7:hunter22@bucket/a").unwrap_err();
        assert_eq!(error.code, "22023");
        assert!(!format!("{error:?}").contains("hunter22"));
    }

    #[test]
    fn errors_tell_no_secrets() {
        let text = "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no match\
                    </Message><AWSAccessKeyId>AKIAIOSFODNN7</AWSAccessKeyId></Error>";
        assert_eq!(told(text, std::iter::empty()), "403 Forbidden: SignatureDoesNotMatch: no match");
        let secrets = ["wJalrXUtnFEMI".to_string(), "a".to_string()];
        assert_eq!(told("a wJalrXUtnFEMI b", secrets.into_iter()), "a … b");
    }
}
