//! Controllers that ask the gateway over Modbus TCP, simulated beside it.

use super::*;

#[tokio::test]
async fn a_controller_opens_its_door_and_its_box_goes_off_when_the_card_is_taken_out() {
    let trial = Trial::with_a_center().await;
    let port = free_port();
    trial.write_site(&format!(
        r#"
[modbus_server]
tcp = "127.0.0.1:{port}"
[[portal]]
id = "door-412"
kind = "door"
zone = "412"
device = {{ modbus_server = 13 }}
[[portal]]
id = "power-412"
kind = "power_box"
zone = "412"
delay_off_s = 0
device = {{ modbus_server = 14 }}
"#
    ));
    let (_simulator, mut happens) = trial.simulator().await;
    let output = trial.simulate(&["present", "door-412", "1EA68671"]).await;
    assert!(output.contains(&format!("the gateway at 127.0.0.1:{port} does not answer unit 13")), "{output}");
    let ([_watch, gateway], mut received) = trial.serve().await;
    // Both are online by what they read, before any card.
    line_with(&mut received, "portal_online power-412").await;
    let enrol = ["enrol", "1EA68671", "h1", "--door", "412", "--power", "412"];
    let (code, output) = trial.center(&enrol).await;
    assert_eq!(code, 0, "{output}");

    for portal in ["door-412", "power-412"] {
        let output = trial.simulate(&["present", portal, "5B3C0D92"]).await;
        assert_eq!(output, "deny unknown_credential; the output stays off\n", "{portal}");
    }
    let output = trial.simulate(&["present", "door-412", "1EA68671"]).await;
    assert!(output.starts_with("grant granted for 3000 ms; output on after "), "{output}");
    line_with(&mut happens, "door-412: output off").await;
    let output = trial.simulate(&["present", "power-412", "1EA68671"]).await;
    assert!(output.starts_with("grant granted; output on after "), "{output}");
    line_with(&mut happens, "power-412: output on").await;
    assert_eq!(trial.simulate(&["remove", "power-412"]).await, "removed\n");
    line_with(&mut happens, "power-412: output off").await;

    let refused = trial.simulate(&["set", "modbus_server/13", "power", "1"]).await;
    assert!(refused.contains("no point `power`; there are contact, tamper, fire"), "{refused}");
    let refused = trial.simulate(&["fault", "modbus_server/99", "silent"]).await;
    assert!(refused.contains("unit `99`; there are `13`, `14`"), "{refused}");
    let refused = trial.simulate(&["fault", "modbus_server/14", "garbage"]).await;
    assert!(refused.contains("it can be `silent` or `none`"), "{refused}");
    assert_eq!(trial.simulate(&["set", "modbus_server/13", "tamper", "1"]).await, "modbus_server/13: tamper is 1\n");
    let alarm = line_with(&mut received, "ALARM").await;
    assert!(alarm.contains("tamper") && alarm.contains("door-412"), "{alarm}");
    trial.simulate(&["fault", "modbus_server/14", "silent"]).await;
    let output = trial.simulate(&["present", "power-412", "1EA68671"]).await;
    assert!(output.contains("it is silent"), "{output}");
    trial.simulate(&["fault", "modbus_server/14", "none"]).await;

    // The gateway goes and comes back: the controllers connect again, and report again what they have to.
    drop(gateway);
    line_with(&mut happens, "power-412: the gateway does not answer").await;
    let _gateway = trial.gateway();
    line_with(&mut happens, "power-412: the gateway answers").await;
    let output = trial.simulate(&["present", "power-412", "1EA68671"]).await;
    assert!(output.starts_with("grant granted; output on after "), "{output}");
}
