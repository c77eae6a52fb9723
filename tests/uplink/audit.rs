//! The audit on its way up: in order, and how its cursor follows the center or the broker.

use super::*;

fn audit_ack(stream: &str, through: u64) -> String {
    json!({"v": 1, "iss": stream, "aud": "g1", "iat": 1, "through": through}).to_string()
}

#[tokio::test]
async fn the_audit_goes_up_in_order_and_the_cursor_follows_the_center() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        rig.audit.last.store(1000, Relaxed);
        let batch = async |center: &mut Connection| {
            let body = up(center, "audit").await;
            let batch = up_body::<AuditBody>(&body).unwrap();
            assert_eq!(u64::try_from(batch.events.len()).unwrap(), batch.last - batch.first + 1);
            (batch.first, batch.last)
        };
        for first in [1, 201, 401, 601] {
            assert_eq!(batch(&mut center).await, (first, first + 199));
        }
        // Four are under way. Others may not acknowledge for the center, and nobody what does not exist.
        let topic = "dormgate/v1/g1/down/audit-ack";
        for (message, code) in [
            (audit_ack("card-office", 800), ErrorCode::ForbiddenOp),
            (audit_ack("office", 2000), ErrorCode::InvalidField),
        ] {
            deliver(&mut center, reporting(topic, message)).await;
            let refused = rig.rejected().await;
            assert_eq!((refused.kind, refused.error.code), (MessageKind::AuditAck, code));
        }
        assert_eq!(rig.audit.acked(), 0);
        center.publish(reporting(topic, audit_ack("office", 300))).unwrap();
        assert_eq!(batch(&mut center).await, (801, 1000));
        assert_eq!(rig.audit.acked(), 300);
        // After a reconnect, from the cursor on.
        rig.break_connection().await;
        assert_eq!(batch(&mut center).await, (301, 500));
        assert_eq!(batch(&mut center).await, (501, 700));
    })
    .await;
}

#[tokio::test]
async fn a_batch_read_before_a_reconnect_does_not_jump_the_queue() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        rig.audit.last.store(200, Relaxed);
        assert_eq!(up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap().first, 1);
        let slow = Arc::clone(&rig.audit.slow);
        let slow = slow.lock().await;
        rig.audit.last.store(400, Relaxed);
        within(async {
            while Arc::strong_count(&rig.audit.slow) < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        rig.break_connection().await;
        drop(slow);
        assert_eq!(up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap().first, 1);
        assert_eq!(up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap().first, 201);
    })
    .await;
}

#[tokio::test]
async fn where_the_broker_acknowledges_the_audit_its_word_moves_the_cursor() {
    against_each(async |broker| {
        let url = broker.url();
        let audit = Arc::new(Audit::default());
        audit.last.store(1500, Relaxed);
        audit.acked.store(100, Relaxed);
        let rig = Rig::with_audit(&url, AuditAckBy::Broker, Arc::clone(&audit)).await;
        let reaches = async |last| {
            within(async {
                while audit.acked() < last {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        };
        reaches(1500).await;
        // The same after a reconnect, with what was recorded meanwhile.
        let mut rig = rig;
        audit.last.store(3100, Relaxed);
        rig.break_connection().await;
        reaches(3100).await;
        rig.task.abort();
    })
    .await;
}

#[tokio::test]
async fn a_batch_behind_events_that_are_gone_reports_where_the_hole_begins() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let audit = Arc::new(Audit { gone: Some((101, 120)), ..Audit::default() });
        audit.last.store(130, Relaxed);
        let rig = Rig::with_audit(&url, AuditAckBy::Center, audit).await;
        for expected in [(1, 100, None), (121, 130, Some(100))] {
            let batch = up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap();
            assert_eq!((batch.first, batch.last, batch.after), expected);
        }
        rig.task.abort();
    })
    .await;
}

#[tokio::test]
async fn events_that_are_on_disk_and_cannot_be_read_are_not_read_again_all_the_time() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let audit = Arc::new(Audit { gone: Some((11, 100)), ..Audit::default() });
        audit.last.store(100, Relaxed);
        let rig = Rig::with_audit(&url, AuditAckBy::Center, Arc::clone(&audit)).await;
        assert_eq!(up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap().last, 10);
        // Each makes the uplink look for more.
        for through in 1..=10 {
            deliver(&mut center, reporting("dormgate/v1/g1/down/audit-ack", audit_ack("office", through))).await;
        }
        within(async {
            while audit.acked() < 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // The batch, then nothing; what is beyond that came after a pause.
        assert!(audit.reads.load(Relaxed) < 5, "{} reads", audit.reads.load(Relaxed));
        rig.task.abort();
    })
    .await;
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_audit_that_cannot_be_read_is_logged_once_also_right_after_a_batch_had_to_wait() {
    let log = Log::default();
    let writer = log.clone();
    let logged = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(logged);
    let broker = TestBroker::embedded().await;
    let mut center = center(&broker.url()).await;
    // Longer than what is sent in one message.
    let long = StoredEvent { n: 1, json: vec![b'1'; 2 * 1024 * 1024] };
    let audit = Arc::new(Audit {
        next: std::sync::Mutex::new([Ok(vec![long]), Err("the disk does not answer".into())].into()),
        ..Audit::default()
    });
    audit.last.store(1, Relaxed);
    let rig = Rig::with_audit(&broker.url(), AuditAckBy::Center, Arc::clone(&audit)).await;
    assert_eq!(up_body::<AuditBody>(&up(&mut center, "audit").await).unwrap().last, 1);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!((lines("has to wait"), lines("the disk does not answer")), (1, 1), "{log}");
    rig.task.abort();
}
