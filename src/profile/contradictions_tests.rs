//! What a profile says against itself: each is a diagnostic with its line and a remedy, because the file drives relays.

use super::check_text;

/// A board with two relays, two readers, a counter and a meter, without a diagnostic.
const BOARD: &str = r#"schema = 1
id = "board"
source = "s"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
[points]
relay = { space = "coil", address = 0, type = "bool", channels = 2 }
uid = { space = "holding", address = 0, type = "bytes", registers = 5 }
number = { space = "holding", address = 5, type = "i16", scale = 0.1, unit = "W", invalid = [-1] }
real = { space = "holding", address = 6, type = "f32" }
[[poll]]
name = "status"
every_ms = 1000
points = ["relay"]
[[poll]]
name = "card"
every_ms = 100
atomic = true
points = ["uid", "number", "real"]
[[reader]]
id = "left"
trigger = { level = "number" }
uid = { point = "uid", length = 4, order = "msb_first" }
[[reader]]
id = "right"
trigger = { latch = "number", release = { space = "holding", address = 5, value = 0 } }
uid = { point = "uid", length = 4, order = "msb_first" }
[output]
channels = 2
state = "relay"
on = { space = "coil", address = 0, value = 0xFF00 }
off = { space = "coil", address = 0, value = 0 }
pulse = { by = "gateway" }
[meter]
power = "number"
"#;

/// What is wrong with the board when `to` stands in the place of `from`.
pub(super) fn said_of_board_with(from: &str, to: &str) -> String {
    let text = BOARD.replacen(from, to, 1);
    assert_ne!(text, BOARD, "{from}");
    check_text("board.toml", &text).err().unwrap_or_default()
}

#[test]
fn a_profile_that_contradicts_itself_is_told_where_and_what_to_do() {
    assert_eq!(check_text("board.toml", BOARD).map(drop), Ok(()));
    let cases = [
        // Of polls.
        (
            "name = \"card\"",
            "name = \"status\"",
            "board.toml:18:8: `poll[1].name`: `status` is the name of an earlier poll, and only one would be sent",
        ),
        ("name = \"card\"", "name = \"\"", "board.toml:18:8: `poll[1].name`: this is empty; say what is asked"),
        (
            "\"number\", \"real\"]",
            "\"number\", \"uid\", \"real\"]",
            "`poll[1].points[2]`: `uid` stands here twice; once is enough",
        ),
        // Of points.
        ("scale = 0.1", "scale = 0", "`points.number.scale`: every value would be 0"),
        ("scale = 0.1", "scale = -0.0", "`points.number.scale`: every value would be 0"),
        (
            "invalid = [-1]",
            "invalid = [0xFFFF]",
            "`points.number.invalid[0]`: a whole number from -32768 to 32767 is wanted",
        ),
        (
            "type = \"f32\"",
            "type = \"f32\", invalid = [0]",
            "`points.real.invalid`: only `u16`, `i16`, `u32` and `i32`",
        ),
        // Of readers.
        ("id = \"right\"", "id = \"left\"", "board.toml:27:1: `reader[1].id`: `left` is the id of an earlier reader"),
        ("level = \"number\"", "level = \"real\"", "`reader[0].trigger.level`: `real` is neither set nor clear"),
        ("latch = \"number\"", "latch = \"uid\"", "`reader[1].trigger.latch`: `uid` is neither set nor clear"),
        // Of outputs.
        ("value = 0 }\npulse", "value = 0xFF00 }\npulse", "board.toml:34:1: `output.off`: it writes the same as `on`"),
        (
            "off = { space = \"coil\", address = 0",
            "off = { space = \"coil\", address = 65535",
            "`output.off`: the last channel lies beyond the last address",
        ),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { by = \"device\", space = \"coil\", address = 65535, step_ms = 500 }",
            "`output.pulse`: the last channel lies beyond",
        ),
        (
            "channels = 2\nstate",
            "channels = 2\nstride = 0\nstate",
            "board.toml:32:1: `output.stride`: with 0, all 2 channels would be one relay",
        ),
        ("state = \"relay\"", "state = \"number\"", "`output.state`: `number` has to be a `bool`"),
        // What is missing, and what to write.
        ("address_base = 0\n", "", "board.toml:4:1: `link`: `address_base` is missing: write 0 if the manual calls"),
        ("source = \"s\"\n", "", "`source` is missing: say where the map was found"),
        ("schema = 1\n", "", "`schema` is missing: write `schema = 1`"),
        ("pulse = { by = \"gateway\" }\n", "", "`output`: `pulse` is missing: say who ends a pulse"),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { by = \"device\", space = \"coil\", address = 8 }",
            "`output.pulse`: `step_ms` is missing: write how long one step",
        ),
        (
            "off = { space = \"coil\", address = 0, value = 0 }\n",
            "",
            "`output`: `off` is missing: say what switches a relay off",
        ),
        (", length = 4, order", ", order", "`reader[0].uid`: `length` is missing: write 4, 7 or 10"),
        (", order = \"msb_first\"", "", "`reader[0].uid`: `order` is missing: write `msb_first`"),
        // Numbers and channels.
        (
            "address_base = 0",
            "address_base = 1",
            "`points.relay.address`: the first address is 1, because `address_base` is 1",
        ),
        (
            "\"holding\", address = 6",
            "\"holding\", address = 65536",
            "`points.real.address`: the last address is 65535, because `address_base` is 0",
        ),
        (
            "channels = 2\nstate",
            "channels = 8\nstate",
            "`output.state`: `relay` has 2 channels, the output 8: write `channels = 8` at that point",
        ),
        // Of inputs.
        (
            "[meter]",
            "[inputs]\npassed_in = { point = \"number\" }\n[meter]",
            "`inputs.passed_in.point`: `passed_in` is a `bool`, or a counter: `u16` or `u32`; `number` is neither",
        ),
        (
            "[meter]",
            "[inputs]\nfire = { point = \"number\" }\n[meter]",
            "`inputs.fire.point`: `fire` is a `bool`; `number` is neither",
        ),
        // Of the whole.
        (
            "power = \"number\"\n",
            "",
            "board.toml:36:1: `meter`: it measures nothing: name a point as `power` or `energy`",
        ),
        (
            "id = \"board\"",
            "id = \"bord\"",
            "board.toml:2:6: `id`: the file is called `board` and configurations name it so",
        ),
    ];
    for (from, to, wanted) in cases {
        let said = said_of_board_with(from, to);
        assert!(said.contains(wanted), "{wanted}\nis not in what is said of {to}:\n{said}");
    }
}

#[test]
fn what_an_input_means_is_shown_for_flags_and_for_counters() {
    let counter = BOARD.replace(
        "[[poll]]\nname = \"status\"",
        "gate = { space = \"holding\", address = 8, type = \"u16\" }\n[[poll]]\nname = \"status\"",
    );
    let counter = counter.replace("\"number\", \"real\"]", "\"number\", \"real\", \"gate\"]");
    let with = |input: &str| check_text("board.toml", &format!("{counter}[inputs]\n{input}\n"));
    assert!(with("passed_in = { point = \"gate\" }").unwrap().contains("somebody went in when `gate` counts on\n"));
    assert!(with("fire = { point = \"relay\", when = false }").unwrap().contains("releases when `relay` is clear\n"));
    let said = with("passed_in = { point = \"gate\", when = false }").unwrap_err();
    assert!(said.contains("`inputs.passed_in.when`: a counter counts and is never clear; leave `when` out"), "{said}");
}

#[test]
fn a_profile_is_said_to_do_nothing_only_when_nothing_is_there() {
    let end = BOARD.find("[[reader]]").unwrap();
    let said = |rest: &str| check_text("board.toml", &format!("{}{rest}", BOARD.get(..end).unwrap())).unwrap_err();
    assert!(said("").contains("the profile does nothing: give it a `[[reader]]`"));
    for wrong in ["[[reader]]\nid = \"left\"\n", "[inputs]\ntamper = { when = true }\n", "[output]\nchannels = 1\n"] {
        assert!(!said(wrong).contains("does nothing"), "{}", said(wrong));
    }
}
