//! A Kafka node: Java from Debian, Kafka itself from Maven, which brings what it depends on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::catalog::{Place, find, free_port};
use super::install;
use crate::failure::Failure;

/// What is run. The newest of its line whose dependencies all exist; it runs on Java 17.
const VERSION: &str = "4.3.1";

/// The name of the cluster, which its storage is formatted with. Any will do.
const CLUSTER: &str = "YWdlbnRidXMtdGVzdHMtMQ";

/// Kafka and one backend for its log, as Maven reads it.
fn project() -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>agentbus</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}

/// One node that is broker and controller at once, on loopback.
///
/// Tests make many small topics, so that indexes are not as large as Kafka's own default.
fn properties(port: u16, controller: u16, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
log.index.size.max.bytes=65536
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"
    )
}

pub(super) fn java() -> Option<PathBuf> {
    find("java", &[])
}

pub(super) fn command(place: &Place) -> Result<Command, Failure> {
    let library = library(&place.folder)?;
    let data = place.data().join("log");
    let settings = place.data().join("properties");
    let text = properties(place.port, free_port()?, &data);
    fs::write(&settings, text).map_err(|error| Failure::read(&settings, &error))?;
    let classes = format!("{}/*", library.display());
    let java = |heap: &str| {
        let mut command = Command::new(&place.program);
        // It starts in half the time without the second compiler, which pays only after minutes.
        command.args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(&classes);
        command
    };
    if !data.join("meta.properties").exists() {
        let mut format = java("-Xmx128m");
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]);
        format.arg(&settings);
        install::succeed(format)?;
    }
    let mut run = java("-Xmx384m");
    run.arg("kafka.Kafka").arg(&settings);
    Ok(run)
}

/// The folder with everything that Kafka is made of, which is fetched if it is not there.
fn library(folder: &Path) -> Result<PathBuf, Failure> {
    let library = folder.join(format!("lib-{VERSION}"));
    if library.is_dir() {
        return Ok(library);
    }
    if find("mvn", &[]).is_none() {
        install::install("maven").map_err(|reason| {
            Failure::new(format!(
                "Kafka needs Maven, which could not be installed ({reason}); run `sudo apt-get install maven` and try again"
            ))
        })?;
    }
    // Renamed when it is whole, so that a fetch that was cut off begins again.
    let partial = folder.join("lib-partial");
    let project_file = folder.join("pom.xml");
    fs::write(&project_file, project()).map_err(|error| Failure::read(&project_file, &error))?;
    let mut fetch = Command::new("mvn");
    fetch.args(["-q", "-B", "dependency:copy-dependencies"]);
    fetch
        .args(["-DincludeScope=runtime", "-f"])
        .arg(&project_file);
    fetch.arg(format!("-DoutputDirectory={}", partial.display()));
    install::patiently(&format!("Fetching Kafka {VERSION}"), fetch).map_err(|reason| {
        Failure::new(format!(
            "Kafka {VERSION} could not be fetched: {reason}; `mvn -f {} dependency:copy-dependencies` shows why",
            project_file.display()
        ))
    })?;
    fs::rename(&partial, &library).map_err(|error| Failure::read(&partial, &error))?;
    Ok(library)
}

/// Forgets what tests have left: each makes topics of its own, and a node that finds thousands
/// takes long to start.
pub(super) fn clean(folder: &Path) {
    // Data that is gone already is what was wanted.
    let _ = fs::remove_dir_all(folder.join("data"));
}
