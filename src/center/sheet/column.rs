//! Which column of a sheet is which, by the names in its first line.

use super::{Fault, Faults, cell};
use crate::access::portal::PortalKind;
use crate::profile::sheet::Record;
use crate::wire::text::hint;

/// A column that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Uid,
    Holder,
    Role,
    Marks,
    Gate,
    Door,
    PowerBox,
    Entitlements,
    NotBefore,
    NotAfter,
}

/// Each column and its names, the first the one that is written. Upper and lower case do not matter, nor do spaces for `_`.
pub(super) const NAMES: [(Column, &[&str]); 10] = [
    (Column::Uid, &["uid", "card_uid", "物理卡号", "卡片UID", "卡UID", "芯片号", "卡片序列号"]),
    (Column::Holder, &["holder", "持卡人", "学工号", "学号", "工号", "人员编号"]),
    (Column::Role, &["role", "身份", "角色", "人员类别"]),
    (Column::Marks, &["marks", "标记"]),
    (Column::Gate, &["gate", "闸机", "大门"]),
    (Column::Door, &["door", "房门", "房间", "房间号", "宿舍"]),
    (Column::PowerBox, &["power_box", "取电箱", "取电", "取电开关"]),
    (Column::Entitlements, &["entitlements", "权限"]),
    (Column::NotBefore, &["not_before", "生效时间", "生效日期", "开始时间", "开始日期"]),
    (Column::NotAfter, &["not_after", "失效时间", "失效日期", "截止时间", "截止日期"]),
];

/// Names that may mean the UID and may mean something else.
const AMBIGUOUS: [&str; 6] = ["卡号", "卡片编号", "card", "card_no", "card_number", "id"];

/// The columns of a list that is written.
pub(super) const WRITTEN: [Column; 9] = [
    Column::Uid,
    Column::Holder,
    Column::Role,
    Column::Marks,
    Column::Gate,
    Column::Door,
    Column::PowerBox,
    Column::NotBefore,
    Column::NotAfter,
];

impl Column {
    /// The columns that name what a card opens.
    pub(super) const RIGHTS: [Self; 4] = [Self::Gate, Self::Door, Self::PowerBox, Self::Entitlements];

    /// Its first name.
    pub(super) fn as_str(self) -> &'static str {
        let names = NAMES.iter().find(|(column, _)| *column == self);
        names.and_then(|(_, names)| names.first()).copied().unwrap_or_default()
    }

    /// The kind of the portals whose zones the column names; `None`: its cells name kinds themselves.
    pub(super) fn kind(self) -> Option<PortalKind> {
        match self {
            Self::Gate => Some(PortalKind::Gate),
            Self::Door => Some(PortalKind::Door),
            Self::PowerBox => Some(PortalKind::PowerBox),
            _ => None,
        }
    }
}

/// The columns of one sheet.
pub(super) struct Columns {
    names: Vec<String>,
    places: Vec<(Column, usize)>,
}

impl Columns {
    /// The columns that the first line names. The rows are read with those that are known, so that all faults are reported at once.
    pub(super) fn of(head: &Record, ignored: &[String], faults: &mut Faults) -> Self {
        let mut columns = Self { names: head.cells.clone(), places: Vec::new() };
        for (place, name) in head.cells.iter().enumerate() {
            if ignored.iter().any(|one| plain(one) == plain(name)) {
                continue;
            }
            let mut fault = |what| faults.add(Fault { line: Some(head.line), column: Some(name.clone()), what });
            let column = NAMES.iter().find(|(_, names)| names.iter().any(|one| plain(one) == plain(name)));
            match column {
                Some((column, _)) => match columns.place(*column) {
                    None => columns.places.push((*column, place)),
                    Some(first) => {
                        let first = columns.names.get(first).map_or("", String::as_str);
                        fault(format!("the column `{first}` means the same; remove one of them"));
                    }
                },
                None if AMBIGUOUS.contains(&plain(name).as_str()) => fault(
                    "this may be the number printed on the card, which is not its UID; if it is the UID in hexadecimal, name the \
                     column `uid` (`物理卡号`)"
                        .to_owned(),
                ),
                None if name.is_empty() => fault("the column has no name; name it or remove it".to_owned()),
                None => {
                    let known = NAMES.iter().filter_map(|(_, names)| names.first().copied());
                    let damage = cell::damage(&plain(name)).map_or(String::new(), |damage| format!("{damage}; "));
                    fault(format!(
                        "{damage}no column has this name, {}; pass over it with `--ignore {name}` if it does not matter",
                        hint(&plain(name), known)
                    ));
                }
            }
        }
        for needed in [Column::Uid, Column::Holder] {
            if columns.place(needed).is_none() {
                let names = NAMES.iter().find(|(column, _)| *column == needed).map_or(&[][..], |(_, names)| names);
                let what = format!("there is no column `{}`; one of {} is wanted", needed.as_str(), names.join(", "));
                faults.add(Fault::line(head.line, what));
            }
        }
        if Column::RIGHTS.iter().all(|column| columns.place(*column).is_none()) {
            let what = "no column names what a card opens; add `gate` (`闸机`), `door` (`房门`), `power_box` (`取电箱`) or \
                        `entitlements` (`权限`)";
            faults.add(Fault::line(head.line, what));
        }
        columns
    }

    /// Where a column stands; `None`: it is not in the sheet.
    pub(super) fn place(&self, column: Column) -> Option<usize> {
        self.places.iter().find(|(one, _)| *one == column).map(|(_, place)| *place)
    }

    /// How many there are, those passed over too.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// How the sheet names a column.
    pub(super) fn name(&self, column: Column) -> String {
        self.place(column)
            .and_then(|place| self.names.get(place))
            .map_or_else(|| column.as_str().to_owned(), Clone::clone)
    }

    /// The text of a cell without the spaces around it; `None`: there is no such column.
    pub(super) fn cell<'r>(&self, record: &'r Record, column: Column) -> Option<&'r str> {
        Some(record.cells.get(self.place(column)?)?.as_str())
    }
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}
