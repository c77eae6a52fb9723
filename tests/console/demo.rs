//! `dormgate demo` stays up with a console, where a newcomer logs in with what it prints.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::http::send;
use crate::program::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_whose_output_cannot_be_written_fails_and_names_that_once() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    let demo = demo.args(["demo", "--once"]).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(full);
    let ended = demo.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap().wait_with_output();
    let ended = within("the end of the demo", ended).await.unwrap();
    let wrong = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), wrong.matches("the output cannot be written").count()), (Some(1), 1), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_stays_up_with_a_console_until_it_is_interrupted() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_dormgate"))
        .arg("demo")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let found = within("the address of the console", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("Open the console, http://") {
                return rest.to_owned();
            }
        }
        panic!("the demo ended without it");
    });
    let line = found.await;
    let (address, rest) = line.split_once('/').unwrap();
    let token = rest.split_once("the token ").unwrap().1.split(',').next().unwrap();
    let now = send(address, "GET", "/api/v1/now", "", "").await.json();
    assert_eq!(now["portals"].as_array().unwrap().len(), 3, "{now}");
    let page = send(address, "GET", "/", "", "").await;
    assert!(page.status == 200 && page.body.contains("/console/app.js"), "{}", page.body);
    let login = json!({"name": "a newcomer", "token": token}).to_string();
    let origin = format!("Origin: http://{address}\r\n");
    assert_eq!(send(address, "POST", "/api/v1/session", &origin, &login).await.status, 200, "{line}");
    let id = demo.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    // What it prints at the end is read, so that it does not wait for room.
    let ended = within("the end of the demo", async {
        while lines.next_line().await.unwrap().is_some() {}
        demo.wait().await.unwrap()
    });
    assert_eq!(ended.await.code(), Some(0));
}
