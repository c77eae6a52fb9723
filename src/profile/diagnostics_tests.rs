//! Every key of a profile written wrongly or left out: one diagnostic a profile, told with its line and a remedy, to the letter.

use super::contradictions_tests::said_of_board_with;

#[test]
fn every_other_kind_of_diagnostic_is_told_with_its_line_and_a_remedy() {
    let cases = [
        // Of the file.
        (
            "schema = 1",
            "schema = 2",
            "1:10: `schema`: this program reads schema 1: write `schema = 1`, or use the program that the file is for",
        ),
        ("id = \"board\"\n", "", "1:1: `id` is missing: write the file's name, e.g. `id = \"acme-dc1\"`"),
        (
            "source = \"s\"",
            "source = \"s\"\non_link_loss = \"of\"",
            "4:16: `on_link_loss`: one of `hold`, `off`, `unknown` is wanted, got `of`; did you mean `off`?",
        ),
        (
            "source = \"s\"",
            "source = \"s\"\ncaveats = \"mind\"",
            "4:11: `caveats`: a list in brackets is wanted, this is a string",
        ),
        (
            "[link]\naddress_base = 0\nbyte_order = \"big\"\nword_order = \"big\"\n",
            "",
            "1:1: `link` is missing: add `[link]` with `address_base = 0`, or 1 if the manual calls the first register 1",
        ),
        (
            "word_order = \"big\"",
            "word_order = \"big\"\nread_max = 126",
            "8:12: `link.read_max`: a whole number from 1 to 125 is wanted",
        ),
        (
            "word_order = \"big\"",
            "word_order = \"big\"\nreply_ms = 0",
            "8:12: `link.reply_ms`: a whole number from 1 to 10000 is wanted",
        ),
        (
            "word_order = \"big\"",
            "word_order = \"bgi\"",
            "7:14: `link.word_order`: one of `big`, `little` is wanted, got `bgi`",
        ),
        (
            "word_order = \"big\"",
            "word_order = \"big\"\nunit = 3",
            "8:1: `link.unit`: unknown key; known: address_base, byte_order, word_order, read_max, reply_ms, factory",
        ),
        // Of points.
        (
            "relay = { space = \"coil\", ",
            "relay = { ",
            "9:9: `points.relay`: `space` is missing: write `coil`, `discrete`, `holding` or `input`",
        ),
        (
            "relay = { space = \"coil\"",
            "relay = { space = \"coils\"",
            "9:19: `points.relay.space`: one of `coil`, `discrete`, `holding`, `input` is wanted, got `coils`; did you mean `coil`?",
        ),
        (
            "address = 0, type = \"bool\"",
            "type = \"bool\"",
            "9:9: `points.relay`: `address` is missing: write the first register or bit as the manual counts it",
        ),
        (
            "address = 0, type = \"bool\"",
            "address = -1, type = \"bool\"",
            "9:37: `points.relay.address`: a whole number from 0 to 65535 is wanted",
        ),
        (
            "address = 0, type = \"bool\"",
            "address = 70000, type = \"bool\"",
            "9:37: `points.relay.address`: a whole number from 0 to 65535 is wanted",
        ),
        (
            "type = \"i16\", ",
            "",
            "11:10: `points.number`: `type` is missing: write what it holds, e.g. `type = \"u16\"`",
        ),
        (
            "type = \"i16\"",
            "type = \"int16\"",
            "11:51: `points.number.type`: one of `bool`, `u16`, `i16`, `u32`, `i32`, `f32`, `bytes`, `byte_each` is wanted, got `int16`",
        ),
        (
            "type = \"bytes\", registers = 5",
            "type = \"bytes\"",
            "10:7: `points.uid`: `registers` is missing: write how many registers the bytes fill, e.g. `registers = 5`",
        ),
        ("registers = 5", "registers = 33", "10:69: `points.uid.registers`: a whole number from 1 to 32 is wanted"),
        (
            "type = \"i16\"",
            "type = \"i16\", registers = 1",
            "11:70: `points.number.registers`: only `bytes` and `byte_each` have a number of registers; the other types know theirs: leave `registers` out",
        ),
        (
            "type = \"i16\"",
            "type = \"i16\", bit = 3",
            "11:64: `points.number.bit`: `bit` is for a `bool` in a register: leave it out, or correct `type`",
        ),
        (
            "type = \"i16\"",
            "type = \"bool\", bit = 16",
            "11:65: `points.number.bit`: a whole number from 0 to 15 is wanted",
        ),
        (
            "byte_order = \"big\"\n",
            "",
            "9:41: `points.uid.type`: say `byte_order = \"big\"` or `\"little\"` here or in `[link]`: devices differ",
        ),
        ("channels = 2 }", "channels = 257 }", "9:66: `points.relay.channels`: a whole number from 1 to 256 is wanted"),
        (
            "channels = 2 }",
            "channels = 2, stride = 0 }",
            "9:78: `points.relay.stride`: a whole number from 1 to 1024 is wanted",
        ),
        ("scale = 0.1", "scale = nan", "11:66: `points.number.scale`: a finite decimal number is wanted"),
        (
            "\"holding\", address = 6",
            "\"holding\", address = 65535",
            "12:29: `points.real.address`: the point ends beyond the last address, 65535: correct `address`, `channels` or `stride`",
        ),
        (
            "channels = 2 }",
            "channels = 2, chanels = 2 }",
            "9:69: `points.relay.chanels`: unknown key; did you mean `channels`?",
        ),
        // Of polls.
        ("name = \"card\"\n", "", "17:1: `poll[1]`: `name` is missing: say what is asked, e.g. `name = \"status\"`"),
        (
            "every_ms = 100\n",
            "",
            "17:1: `poll[1]`: `every_ms` is missing: say how often it is asked, e.g. `every_ms = 200`",
        ),
        (
            "every_ms = 100\n",
            "every_ms = 19\n",
            "19:12: `poll[1].every_ms`: a whole number from 20 to 3600000 is wanted",
        ),
        (
            "points = [\"relay\"]\n",
            "",
            "13:1: `poll[0]`: `points` is missing: name points that are asked together, e.g. `points = [\"relay\"]`",
        ),
        (
            "points = [\"relay\"]",
            "points = []",
            "16:1: `poll[0].points`: a poll asks for at least one point: name it, or leave the poll out",
        ),
        (
            "points = [\"relay\"]",
            "points = [\"relay\", \"rely\"]",
            "16:20: `poll[0].points[1]`: no point is called `rely`; did you mean `relay`?",
        ),
        (
            "points = [\"relay\"]",
            "points = [\"relay\"]\nmax_gap = 126",
            "17:11: `poll[0].max_gap`: a whole number from 0 to 125 is wanted",
        ),
        ("atomic = true", "atomic = \"yes\"", "20:10: `poll[1].atomic`: `true` or `false` is wanted, this is a string"),
        (
            "\"uid\", \"number\", \"real\"]",
            "\"uid\", \"number\", \"real\", \"relay\"]",
            "20:1: `poll[1].atomic`: needs 2 requests (FC01 read coil 0 to 1; FC03 read holding 0 to 7), an atomic poll is one: raise `max_gap` or `read_max`, or split it",
        ),
        // Of readers.
        (
            "trigger = { level = \"number\" }\n",
            "",
            "22:1: `reader[0]`: `trigger` is missing: say when a card is there, e.g. `trigger = { level = \"uid\" }`",
        ),
        (
            "level = \"number\"",
            "level = \"relay\", latch = \"number\"",
            "24:11: `reader[0].trigger`: one of `level`, `latch` or `counter` says when a card is there; `level = \"uid\"`: zeros mean no card",
        ),
        (
            "level = \"number\"",
            "",
            "24:11: `reader[0].trigger`: one of `level`, `latch` or `counter` says when a card is there; `level = \"uid\"`: zeros mean no card",
        ),
        (
            "level = \"number\"",
            "level = \"presence\"",
            "24:21: `reader[0].trigger.level`: no point is called `presence`; declare it in `[points]`",
        ),
        (
            "latch = \"number\", release = { space = \"holding\", address = 5, value = 0 }",
            "latch = \"number\"",
            "28:11: `reader[1].trigger`: a latch needs `release = { space = …, address = …, value = … }`: what makes room for the next card",
        ),
        (
            "level = \"number\"",
            "level = \"number\", release = { space = \"coil\", address = 5 }",
            "24:31: `reader[0].trigger.release`: only a latch is released: leave it out, or say `latch = \"POINT\"`",
        ),
        (
            "level = \"number\"",
            "level = \"number\", repeats_ms = 300",
            "24:31: `reader[0].trigger.repeats_ms`: only a latch is set again: leave it out, or say `latch = \"POINT\"`",
        ),
        (
            "level = \"number\"",
            "level = \"number\", acknowledge = { space = \"coil\", address = 5 }",
            "24:31: `reader[0].trigger.acknowledge`: only a counter is acknowledged: leave it out, or say `counter = \"POINT\"`",
        ),
        (
            "level = \"number\"",
            "counter = \"number\"",
            "24:13: `reader[0].trigger.counter`: a counter is a `u16` or `u32`: correct the `type` of the point, or name another",
        ),
        (
            "release = { space = \"holding\"",
            "release = { space = \"input\"",
            "28:43: `reader[1].trigger.release.space`: a point of `input` cannot be written; `coil` or `holding` can",
        ),
        (
            "release = { space = \"holding\", ",
            "release = { ",
            "28:41: `reader[1].trigger.release`: `space` is missing: write `space = \"coil\"` or `\"holding\"`",
        ),
        (
            "uid = { point = \"uid\", length = 4, order = \"msb_first\" }\n",
            "",
            "22:1: `reader[0]`: `uid` is missing: say where the card number is, e.g. `uid = { point = \"uid\", length = 4, order = \"msb_first\" }`",
        ),
        (
            "id = \"left\"",
            "id = \"left\"\ndirection = \"inside\"",
            "24:13: `reader[0].direction`: one of `in`, `out` is wanted, got `inside`; did you mean `in`?",
        ),
        (
            "id = \"left\"",
            "id = \"left\"\ngone_ms = 60001",
            "24:11: `reader[0].gone_ms`: a whole number from 0 to 60000 is wanted",
        ),
        (
            "points = [\"uid\", \"number\", \"real\"]",
            "points = [\"uid\", \"real\"]\nmax_gap = 1\n[[poll]]\nname = \"more\"\nevery_ms = 100\npoints = [\"number\"]",
            "27:1: `reader[0]`: one poll with `atomic = true` has to ask for number, uid together",
        ),
        // Of outputs.
        (
            "channels = 2\nstate",
            "channels = 0\nstate",
            "31:12: `output.channels`: a whole number from 1 to 256 is wanted",
        ),
        (
            "state = \"relay\"",
            "state = \"relay\"\nsettle_ms = 5001",
            "33:13: `output.settle_ms`: a whole number from 0 to 5000 is wanted",
        ),
        (
            "on = { space = \"coil\", address = 0, value = 0xFF00 }\n",
            "",
            "30:1: `output`: `on` is missing: say what switches a relay on, e.g. `on = { space = \"coil\", address = 0, value = 0xFF00 }`",
        ),
        ("value = 0xFF00 }", "value = 0x10000 }", "33:45: `output.on.value`: a whole number from 0 to 65535 is wanted"),
        (
            "value = 0xFF00 }",
            "value = 0xFF00, multiple = 1 }",
            "33:64: `output.on.multiple`: `true` or `false` is wanted, this is a integer",
        ),
        (
            "value = 0xFF00 }",
            "value = 0x0100, multiple = true }",
            "33:37: `output.on.value`: FC 15 carries bits: write 0 or 1, or leave `multiple` out",
        ),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { }",
            "35:9: `output.pulse`: `by` is missing: write `gateway`, or `device` if the device ends the pulse itself",
        ),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { by = \"device\", space = \"coil\", address = 8, step_ms = 0 }",
            "35:65: `output.pulse.step_ms`: a whole number from 1 to 600000 is wanted",
        ),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { by = \"device\", space = \"coil\", address = 8, value = 2, step_ms = 100, steps_max = 65534 }",
            "35:81: `output.pulse.steps_max`: `value` plus `steps_max` is more than a register holds: lower one of them",
        ),
        // Of inputs and meters.
        (
            "[meter]",
            "[inputs]\n[meter]",
            "36:1: `inputs`: it tells nothing: name a point as `contact_open`, `exit_button` and so on, or leave `[inputs]` out",
        ),
        (
            "[meter]",
            "[inputs]\ntamper = { when = true }\n[meter]",
            "37:10: `inputs.tamper`: `point` is missing: name one of `[points]`",
        ),
        (
            "pulse = { by = \"gateway\" }",
            "pulse = { space = \"coil\", address = 8, step_ms = 100 }",
            "35:9: `output.pulse`: `by` is missing: write `gateway`, or `device` if the device ends the pulse itself",
        ),
        (
            "state = \"relay\"",
            "state = \"relay\"\nconfirm = { because = \"x\" }",
            "33:11: `output.confirm`: `by` is missing: write `state` or `echo`",
        ),
        (
            "uid = { point = \"uid\", length = 4",
            "uid = { length = 4",
            "25:7: `reader[0].uid`: `point` is missing: name the point of `[points]` that holds the UID",
        ),
        (
            "[meter]",
            "[inputs]\ntampr = { point = \"relay\" }\n[meter]",
            "37:1: `inputs.tampr`: unknown key; did you mean `tamper`?",
        ),
        ("unit = \"W\"", "unit = \"VA\"", "37:9: `meter.power`: `number` needs `unit` `W` or `kW` in `[points]`"),
        (
            "power = \"number\"",
            "power = \"real\"",
            "37:9: `meter.power`: `real` needs `unit` `W` or `kW` in `[points]`",
        ),
    ];
    for (from, to, wanted) in cases {
        let said = said_of_board_with(from, to);
        let told = said.lines().any(|line| line.strip_prefix("board.toml:") == Some(wanted));
        assert!(told, "{wanted}\nis not in what is said of {to}:\n{said}");
        let unknown = said.lines().filter(|line| line.contains("unknown key")).count();
        assert_eq!(unknown, usize::from(wanted.contains("unknown key")), "what belongs there is not unknown:\n{said}");
    }
}
