//! An etcd of a test's own, on loopback: killed, paused, restarted, and gone with the test.

#![allow(dead_code)]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{Client, Permission, PermissionType};

/// One etcd at a time: each syncs its own log, and these tests go by time.
static ONE: Mutex<()> = Mutex::new(());

pub(crate) struct Server {
    pub(crate) url: String,
    peer: String,
    folder: tempfile::TempDir,
    child: Child,
    _one: MutexGuard<'static, ()>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// `None`, and said so, where there is no etcd.
    pub(crate) fn start() -> Option<Self> {
        let there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        if there.is_err() {
            println!("SKIPPED: real-etcd: no etcd in the path");
            return None;
        }
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let url = |port| format!("http://127.0.0.1:{port}");
        let (url, peer) = (url(free_port()), url(free_port()));
        let child = spawn(&url, &peer, &folder);
        let server = Self { url, peer, folder, child, _one };
        server.answers();
        Some(server)
    }

    /// Waits until it answers.
    fn answers(&self) {
        let begun = Instant::now();
        let address = self.url.strip_prefix("http://").unwrap();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "etcd does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.url, &self.peer, &self.folder);
        self.answers();
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn admin<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(Client::connect([&self.url], None).await.unwrap()).await })
    }

    /// Forgets all history but the last.
    pub(crate) fn compact(&self) {
        self.admin(async |mut client: Client| {
            let now = client.get("x", None).await.unwrap().header().unwrap().revision();
            client.compact(now, None).await.unwrap();
        });
    }

    /// Users from here on: `reader` may read our keys, `owner` may write them.
    pub(crate) fn demand_users(&self) {
        self.admin(async |mut client: Client| {
            let all = |kind| Permission::new(kind, "/sapwood/").with_prefix();
            for (name, password, kind) in [
                ("reader", "secret1", PermissionType::Read),
                ("owner", "secret2", PermissionType::Readwrite),
            ] {
                client.role_add(name).await.unwrap();
                client.role_grant_permission(name, all(kind)).await.unwrap();
                client.user_add(name, password, None).await.unwrap();
                client.user_grant_role(name, name).await.unwrap();
            }
            client.role_add("root").await.unwrap();
            client.user_add("root", "secret0", None).await.unwrap();
            client.user_grant_role("root", "root").await.unwrap();
            client.auth_enable().await.unwrap();
        });
    }
}

fn spawn(url: &str, peer: &str, folder: &tempfile::TempDir) -> Child {
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.path());
    command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
    command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    command.args(["--log-level", "error"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
