//! Portals from a sheet: what it means, and where what is wrong is reported.

use super::{around, directory};
use crate::config::{ConfigError, load};

const HEAD: &str = "[local]\nurls = [\"mqtt://127.0.0.1\"]\n[modbus_server]\ntcp = \"127.0.0.1:1502\"\n\
                    [[bus]]\nid = \"riser\"\ntcp = \"127.0.0.1:502\"\n";

/// A configuration with this sheet, and with tables of its own behind the other sections.
fn load_with(sheet: &[u8], tables: &str) -> Result<String, String> {
    let dir = directory(&[("d.toml", &format!("portals = \"portals.csv\"\n[gateway]\nid = \"g\"\n{HEAD}{tables}"))]);
    std::fs::write(dir.path().join("portals.csv"), sheet).unwrap();
    match load(&dir.path().join("d.toml")) {
        Ok(site) => Ok(super::shown(&site, dir.path())),
        Err(ConfigError::Unreadable { .. }) => panic!("the file can be read"),
        Err(error) => Err(error.to_string().replace(&format!("{}/", dir.path().display()), "")),
    }
}

const GATE: &str = "[[portal]]\nid = \"gate\"\nkind = \"gate\"\nzone = \"lobby\"\ndevice = { mqtt = \"native\" }\n";

#[test]
fn a_sheet_means_what_the_same_tables_mean() {
    let sheet = "id,kind,zone,# who wired it,hold_ms,interlock,two_card,reader.modbus,reader.unit,reader.profile,output.modbus,output.unit,\
                 output.profile,output.channel,device.modbus_server,device.mqtt\n\
                 door-412,door,412,\"Li, 3 May\",4000,,TRUE,riser,03,inveo-rfid-ind-m1,riser,21,waveshare-relay-8ch,0,,\n\
                 # the second floor,,,,,,,,,,,,,,,\n\
                 ,,,,,,,,,,,,,,,\n\
                 door-413,door,413,,,door-412;gate,false,,,,,,,,13,\n\
                 power-0412,power_box,0412,,,,,,,,,,,,,native\n";
    let tables = r#"
        [[portal]]
        id = "door-412"
        kind = "door"
        zone = "412"
        hold_ms = 4000
        two_card = true
        reader = { modbus = "riser", unit = 3, profile = "inveo-rfid-ind-m1" }
        output = { modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 0 }
        [[portal]]
        id = "door-413"
        kind = "door"
        zone = "413"
        interlock = ["door-412", "gate"]
        device = { modbus_server = 13 }
        [[portal]]
        id = "power-0412"
        kind = "power_box"
        zone = "0412"
        device = { mqtt = "native" }
    "#;
    let dir = directory(&[]);
    let text = format!("[gateway]\nid = \"g\"\n{HEAD}{GATE}{tables}");
    let site = super::parse(&text, &around(dir.path())).unwrap();
    let wanted = super::shown(&site, dir.path());
    assert_eq!(load_with(sheet.as_bytes(), GATE).unwrap(), wanted);
    let with_mark =
        [b"\xEF\xBB\xBF".as_slice(), sheet.replace(',', ";").replace("door-412;gate", "door-412 gate").as_bytes()]
            .concat();
    assert_eq!(load_with(&with_mark, GATE).unwrap(), wanted, "as other spreadsheets write it");
    let windows = sheet.replace('\n', "\r\n").replace("Li, 3 May", "李");
    assert_eq!(load_with(&encoding_rs::GB18030.encode(&windows).0, GATE).unwrap(), wanted, "GB18030");
}

#[test]
fn what_is_wrong_in_a_sheet_is_reported_at_its_row_and_column() {
    let rows: &[(&str, &str)] = &[
        ("", "portals.csv:1:1: the sheet is empty; its first line names the columns, e.g. `id,kind,zone,device.mqtt`"),
        (
            "PK\x03\x04",
            "portals.csv:1:1: this is a workbook of a spreadsheet program; save it as `CSV UTF-8` and name that file",
        ),
        (
            "id,,Zone,id,a.b.\n",
            "portals.csv:1:2: the column has no name; write a key of `[[portal]]`, or `#` if it is a remark\n\
             portals.csv:1:3: `Zone` is no column; write a key of `[[portal]]` such as `zone` or `reader.unit`, or `#` in front of it if it is a remark\n\
             portals.csv:1:4: `id` is there twice; remove one of the two columns\n\
             portals.csv:1:5: `a.b.` is no column; write a key of `[[portal]]` such as `zone` or `reader.unit`, or `#` in front of it if it is a remark",
        ),
        (
            "id,kind,zone,device.mqtt\ndoor-1,door,1,native,native\n",
            "portals.csv:2:5: the row has 5 cells and the first line 4; put a cell with a separator in it in double quotes",
        ),
        (
            "id,kind,zone,hold,device.mqtt\ndoor-1,door,1,3,native\ndoor-2,door,2,3,native\ndoor-3,door,3,3,native\n",
            "portals.csv:1:4: `hold`: unknown key; did you mean `hold_ms`?",
        ),
        (
            "id,kind,zone,two_card,device.mqtt\ndoor-1,door,1,yes,native\ndoor-2,door,2,yes,native\ndoor-3,door,3,ja,native\n",
            "portals.csv:2:4: `two_card`: `true` or `false` is wanted, this is `yes` (and so in 1 more rows)\n\
             portals.csv:4:4: `two_card`: `true` or `false` is wanted, this is `ja`",
        ),
        (
            "id,kind,zone,device.mqtt\ndoor-1,dor,1,native\ndoor-2,\"door,2,native\ndoor-3,door,3,native\n",
            "portals.csv:3:1: a quotation mark opens a cell here and is not closed behind it; close it, or write it twice inside quotation marks if it belongs to the text\n\
             portals.csv:2:2: `kind`: ",
        ),
        (
            "id,kind,zone,device.mqtt\n\"door-1,door,1,native\n\"door-2\",door,2,native\n",
            "portals.csv:2:1: a quotation mark opens a cell here and is not closed behind it; close it, or write it twice inside quotation marks if it belongs to the text",
        ),
        (
            "id,kind,zone,hold_ms,device.mqtt\n\"door\n1\",dor,1,x,native\ndoor-2,door,,99,native\n",
            "portals.csv:2:1: `id`: ",
        ),
        ("id,kind,zone,device.mqtt\n,door,1,native\n", "portals.csv:2:1: `id` is missing"),
        (
            "id,kind,zone,device.mqtt,holdms,reader.unti\n\"a\nb\",door,1,native\n",
            "portals.csv:1:5: `holdms`: unknown key; did you mean `hold_ms`?\n\
             portals.csv:1:6: `reader.unti`: unknown key; did you mean `unit`?\n\
             portals.csv:2:1: `id`: an identifier is 1 to 64 of A-Z a-z 0-9 _ - and begins with a letter or digit; got `a\\nb`",
        ),
        (
            "id,kind,zone,device,device.mqtt\nd1,door,1,,native\nd1,door,1,,native\nd1,door,1,,native\n",
            "portals.csv:1:5: `device` is a column too, and a value and a table with `device.mqtt` in it cannot both be there; remove one of the two columns\n\
             portals.csv:3:1: `id`: `d1` is the id of `portals.csv:2`; give each portal its own (and so in 1 more rows)",
        ),
        (
            "id,kind,zone,reader.modbus,reader.unit,reader.profile,output.modbus,output.unit,output.profile\n\
             door-1,door,1,riser,,inveo-rfid-ind-m1,riser,2,waveshare-relay-8ch\n\
             door-2,door,2,riser,4,inveo-rfid-ind-m1,riser,3,waveshare-relay-8ch\n\
             door-3,door,3,riser,5,inveo-rfid-ind-m1,riser,3,waveshare-relay-8ch\n\
             gate,door,4,risor,6,inveo-rfid-ind-m1,riser,7,waveshare-relay-8ch\n",
            "portals.csv:2:4: `reader`: `unit` is missing\n\
             portals.csv:4:7: `output`: channel 0 of unit 3 on `riser` is that of `portals.csv:3.output`; two portals cannot share it\n\
             portals.csv:5:1: `id`: `gate` is the id of `portal[0]`; give each portal its own\n\
             portals.csv:5:4: `reader.modbus`: bus `risor` does not exist; did you mean `riser`?",
        ),
    ];
    for (sheet, wanted) in rows {
        let found = load_with(sheet.as_bytes(), GATE).unwrap_err();
        if wanted.ends_with(": ") {
            assert!(found.starts_with(wanted), "{found}");
        } else {
            assert_eq!(found, *wanted, "{sheet}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_sheet_hides_nothing_that_is_wrong_elsewhere() {
    // Of the file, and a rule that is about a portal of the sheet.
    let tables = "[http]\nlisten = \"here\"\n[[area]]\nzone = \"lobby\"\nanti_passback = \"deny\"\n";
    let good = "door-9,dor,9,native\n";
    for (sheet, in_rows) in [
        ("", false),
        ("PK\x03\x04", false),
        (&format!("id,kind,zone,device.mqtt,id\n{good}"), true),
        (&format!("id,kind,Zone,device.mqtt\n{good}"), true),
        (&format!("id,kind,zone,device.mqtt\ngate-1,gate,lobby,native,x\n{good}"), true),
        (&format!("id,kind,zone,device.mqtt\n{good}gate-1,\"gate,lobby,native,x\n"), true),
    ] {
        let found = load_with(sheet.as_bytes(), tables).unwrap_err();
        assert!(found.contains("d.toml:12:10: `http.listen`: "), "{sheet}: {found}");
        assert_eq!(found.contains("`kind`: "), in_rows, "{sheet}: {found}");
        assert!(!found.contains("`area") && !found.contains("is missing"), "{sheet}: {found}");
        assert_eq!(found.lines().count(), 2 + usize::from(in_rows), "{found}");
    }
    let dir = directory(&[("d.toml", "portals = \"rooms.csv\"\n[gateway]\nid = \"a b\"\n")]);
    let found = load(&dir.path().join("d.toml")).unwrap_err().to_string();
    assert!(found.contains("cannot read the sheet") && found.contains("`gateway.id`"), "{found}");
}

#[test]
fn a_sheet_that_is_not_there_is_reported_at_its_key() {
    let dir = directory(&[("d.toml", "portals = \"rooms.csv\"\n[gateway]\nid = \"g\"\n")]);
    let found = load(&dir.path().join("d.toml")).unwrap_err().to_string();
    assert!(found.contains("d.toml:1:11: `portals`: cannot read the sheet of portals `"), "{found}");
    let dir = directory(&[("d.toml", "portals = 3\n[gateway]\nid = \"g\"\n")]);
    let found = load(&dir.path().join("d.toml")).unwrap_err().to_string();
    assert!(
        found.contains(
            "d.toml:1:11: `portals`: text in quotes is wanted, this is an integer; did you mean `[[portal]]`"
        ),
        "{found}"
    );
}

/// The keys of a struct.
struct Keys<'k>(&'k mut Vec<&'static str>);

impl<'de> serde::Deserializer<'de> for Keys<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("only structs are asked for their keys"))
    }

    fn deserialize_struct<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(serde::de::Error::custom("no value is made"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn keys_of<T: serde::de::DeserializeOwned>() -> Vec<&'static str> {
    let mut keys = Vec::new();
    assert!(T::deserialize(Keys(&mut keys)).is_err());
    keys
}

/// A cell of each key that a portal or one of its tables has.
const CELLS: &str = "id=door-1 kind=door zone=1 direction=in hold_ms=4000 extended_hold_ms=9000 delay_off_s=15 rest_s=3 debounce_ms=0 \
                     held_open_s=20 fire_input=TRUE free_access=1 hours=2 power_hours=3 overload_w=2000 overload_s=5 \
                     restricted_step_w=800 allowed_steps_w=1100-1300;1900-2100 min_assurance=sector anti_passback_timed_s=60 \
                     two_card=true two_card_s=20 interlock=gate first_card=false mqtt=7 modbus_server=7 modbus=7 unit=7 profile=7 \
                     channel=7 topic=7 bus=7";

#[test]
fn each_key_of_a_portal_can_be_a_column() {
    let cell = |key: &str| {
        let found = CELLS.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("`{key}` has no cell above, and perhaps no kind in `sheet`"))
    };
    let tables: [&[&str]; 2] = [&["device"], &["reader", "output", "meter", "inputs"]];
    let inner = [keys_of::<crate::config::wiring::DeviceTable>(), keys_of::<crate::config::wiring::PartTable>()];
    let mut columns = Vec::new();
    for key in keys_of::<crate::config::portal::PortalTable>() {
        match tables.iter().zip(&inner).find(|(names, _)| names.contains(&key)) {
            Some((_, keys)) => columns.extend(keys.iter().map(|inner| (format!("{key}.{inner}"), cell(inner)))),
            None => columns.push((key.to_owned(), cell(key))),
        }
    }
    assert!(columns.len() > 40, "{columns:?}");
    for (column, cell) in columns {
        let found = load_with(format!("{column}\n{cell}\n").as_bytes(), GATE).unwrap_err();
        let is_misread =
            |line: &&str| line.contains("is wanted") || line.contains("unknown key") || line.contains("not TOML");
        let misread = found.lines().find(|line| line.contains(&format!("`{column}")) && is_misread(line));
        assert_eq!(misread, None, "{column}: {cell}");
    }
}
