CREATE DATABASE IF NOT EXISTS drover CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS drover.undo (
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  side ENUM('source','destination') NOT NULL,
  position INT UNSIGNED NOT NULL,
  statement LONGTEXT NOT NULL,
  PRIMARY KEY (migration, side, position)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS drover.account (
  user VARCHAR(128) NOT NULL,
  host VARCHAR(255) NOT NULL,
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  made BOOLEAN NOT NULL,
  PRIMARY KEY (user, host, migration),
  KEY (migration)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS drover.copy (
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  database_name VARCHAR(64) NOT NULL,
  loader CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  made BOOLEAN NOT NULL
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS drover.watchdog (
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  database_lock VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  frozen_at_unix_ms BIGINT NOT NULL,
  thaw_at_unix_ms BIGINT NOT NULL,
  KEY (thaw_at_unix_ms)
) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS drover.ledger (
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  side ENUM('source','destination') NOT NULL,
  campaign VARCHAR(63) NOT NULL,
  database_name VARCHAR(64) NOT NULL,
  state VARCHAR(16) NOT NULL,
  revision BIGINT UNSIGNED NOT NULL,
  run INT UNSIGNED NOT NULL,
  attempt INT UNSIGNED NOT NULL,
  `undo` LONGTEXT NOT NULL,
  facts LONGTEXT NOT NULL,
  job LONGBLOB NOT NULL,
  began_at DATETIME(3) NOT NULL,
  changed_at DATETIME(3) NOT NULL,
  PRIMARY KEY (migration, side),
  KEY (database_name)
) ENGINE=InnoDB
