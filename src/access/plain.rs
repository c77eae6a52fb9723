//! Which characters may stand in a name, and in text of others that is repeated.

/// Whether a character is seen as what it is. Control characters break logs; direction marks make one text look like another, and two
/// names that differ in what is not seen look the same. Variation selectors count as seen: names are written with them.
#[must_use]
pub fn is_plain(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{AD}'
            | '\u{61C}'
            | '\u{115F}'
            | '\u{1160}'
            | '\u{17B4}'
            | '\u{17B5}'
            | '\u{180E}'
            | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E007F}'
    );
    !c.is_control() && !is_hidden
}
