//! Tables that hand out the rows of another database.
//!
//! A MERGE table needs rights on the tables that it joins only when it is made. At the destination
//! it is made with Drover's rights, and the other database's name may be another customer's there:
//! the copy would hand out his rows. So a MERGE table over another database does not move.

/// As SHOW CREATE TABLE prints them: the engine, and what stands between two names. Both may also
/// stand in a comment; such a table is refused as well, which hurts nobody.
const ENGINE: &str = "ENGINE=MRG_MyISAM";
const QUALIFIED: &str = "`.`";

/// Whether a table's definition takes in another database's tables.
pub(crate) fn is_reached(definition: &str) -> bool {
    definition.contains(ENGINE) && definition.contains(QUALIFIED)
}

#[cfg(test)]
mod tests {
    use super::is_reached;

    #[test]
    fn only_merge_tables_over_other_databases_are_seen() {
        let merge = "CREATE TABLE `m` (`a` int) ENGINE=MRG_MyISAM UNION=(`t`,`u`)";
        assert!(!is_reached(merge));
        assert!(is_reached(&merge.replace("`u`", "`other`.`u`")));
        assert!(!is_reached("CREATE TABLE `t` (`a` int REFERENCES `other`.`u`) ENGINE=InnoDB"));
    }
}
