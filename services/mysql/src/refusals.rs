//! Why a destination refused a statement of a dump: each error number under the code of its cause, that
//! of the pre-flight where the pre-flight could have told it.

use drover_schemas::Code;

use crate::frames::FrameKind;

/// The code of a refusal: the server's error number, in a frame of this kind.
pub(crate) fn code(number: u16, kind: Option<FrameKind>) -> Code {
    match number {
        // No such engine, or it is switched off.
        1286 | 1289 => Code::EngineMissing,
        // Unknown collation, unknown character set.
        1273 | 1115 => Code::CollationMissing,
        // Unknown data type.
        4161 => Code::TypeMissing,
        // A key, a row, a column too long, in two ways; too many columns.
        1071 | 1118 | 1074 | 1709 | 1117 => Code::RowTooLarge,
        1153 => Code::PacketTooSmall,
        // What the pieces of a long value would make together, see `long`.
        1242 if kind == Some(FrameKind::Rows) => Code::PacketTooSmall,
        // Syntax, unknown system variable.
        1064 | 1149 | 1193 => Code::SyntaxUnknown,
        // Full, and so is the folder in which a server sorts a key.
        1114 | 1878 => Code::TableFull,
        // In a key, and as the server says it with the key's name.
        1062 | 1586 => Code::KeyTwice,
        // Out of range, truncated, wrong, too long; no default, NULL; a failed check in three ways.
        1264 | 1265 | 1292 | 1366 | 1406 | 1067 | 1048 | 3819 | 4025 | 1411 => Code::ValueRefused,
        _ if kind == Some(FrameKind::View) => Code::ViewRefused,
        // Database, table, column, routine; foreign keys in four ways; sequence.
        1049 | 1146 | 1054 | 1305 | 1005 | 1215 | 1452 | 1824 | 4091 => Code::ReferenceMissing,
        _ => Code::ImportRefused,
    }
}
