watchdog: BEGIN
  DECLARE now_ms BIGINT DEFAULT CAST(FLOOR(UNIX_TIMESTAMP(SYSDATE(3)) * 1000) AS SIGNED);
  IF NOT EXISTS (SELECT 1 FROM drover.watchdog WHERE thaw_at_unix_ms <= now_ms) THEN
    LEAVE watchdog;
  END IF;
  -- The scheduler starts the next round also while this one is at work.
  IF COALESCE(GET_LOCK('drover:watchdog', 0), 0) <> 1 THEN
    LEAVE watchdog;
  END IF;
  FOR due IN (
    SELECT migration, database_lock FROM drover.watchdog
    WHERE thaw_at_unix_ms <= now_ms ORDER BY thaw_at_unix_ms
  ) DO
    one: BEGIN
      DECLARE at_state VARCHAR(16) DEFAULT NULL;
      DECLARE of_database VARCHAR(64) DEFAULT NULL;
      DECLARE newest BIGINT UNSIGNED DEFAULT 0;
      DECLARE at_position BIGINT UNSIGNED DEFAULT 0;
      DECLARE undo_statement LONGTEXT DEFAULT NULL;
      -- What goes wrong with one does not keep the others frozen; it is tried again.
      DECLARE EXIT HANDLER FOR SQLEXCEPTION
      BEGIN
        ROLLBACK;
        DO RELEASE_LOCK(due.database_lock);
        DO RELEASE_LOCK(CONCAT('drover:', due.migration));
      END;
      IF COALESCE(GET_LOCK(CONCAT('drover:', due.migration), 0), 0) <> 1 THEN
        LEAVE one;
      END IF;
      IF COALESCE(GET_LOCK(due.database_lock, 0), 0) <> 1 THEN
        DO RELEASE_LOCK(CONCAT('drover:', due.migration));
        LEAVE one;
      END IF;
      -- Under the locks once more: it may have been disarmed, thawed or frozen anew meanwhile.
      IF EXISTS (
        SELECT 1 FROM drover.watchdog
        WHERE migration = due.migration AND thaw_at_unix_ms <= now_ms
      ) THEN
        SELECT state, database_name INTO at_state, of_database FROM drover.ledger
        WHERE migration = due.migration AND side = 'source';
        IF at_state IN ('freezing', 'frozen') THEN
          UPDATE drover.ledger SET state = 'lapsing', changed_at = UTC_TIMESTAMP(3)
          WHERE migration = due.migration AND side = 'source';
          IF @@innodb_flush_log_at_trx_commit <> 1 THEN
            FLUSH ENGINE LOGS;
          END IF;
          SET at_state = 'lapsing';
        END IF;
        IF at_state = 'lapsing' THEN
          undoing: LOOP
            SET at_position = (
              SELECT MIN(position) FROM drover.undo
              WHERE migration = due.migration AND side = 'source' AND position >= at_position
            );
            IF at_position IS NULL THEN
              LEAVE undoing;
            END IF;
            SET undo_statement = (
              SELECT statement FROM drover.undo
              WHERE migration = due.migration AND side = 'source' AND position = at_position
            );
            BEGIN
              DECLARE number INT DEFAULT 0;
              BEGIN
                DECLARE CONTINUE HANDLER FOR SQLEXCEPTION
                  GET DIAGNOSTICS CONDITION 1 number = MYSQL_ERRNO;
                EXECUTE IMMEDIATE undo_statement;
              END;
              IF number IN (0, {gone}) THEN
                DELETE FROM drover.undo
                WHERE migration = due.migration AND side = 'source' AND position = at_position;
              END IF;
            END;
            SET at_position = at_position + 1;
          END LOOP;
          IF NOT EXISTS (
            SELECT 1 FROM drover.undo WHERE migration = due.migration AND side = 'source'
          ) THEN
            SET newest = CONNECTION_ID();
            SELECT MAX(ID) INTO newest FROM information_schema.PROCESSLIST;
            SET now_ms = CAST(FLOOR(UNIX_TIMESTAMP(SYSDATE(3)) * 1000) AS SIGNED);
            START TRANSACTION;
            UPDATE drover.ledger SET state = 'lapsed',
              facts = CONCAT('{"thawed_at_unix_ms":', now_ms, ',"accounts":0}'),
              changed_at = UTC_TIMESTAMP(3)
            WHERE migration = due.migration AND side = 'source';
            DELETE FROM drover.watchdog WHERE migration = due.migration;
            COMMIT;
            -- Idle sessions that came while it was frozen would keep the rights of that time.
            FOR idle IN (
              SELECT ID FROM information_schema.PROCESSLIST
              WHERE DB = of_database AND COMMAND = 'Sleep' AND ID <= newest
              AND ID <> CONNECTION_ID() AND ID NOT IN (
                SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX
              )
            ) DO
              BEGIN
                DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
                EXECUTE IMMEDIATE CONCAT('KILL SOFT CONNECTION ', idle.ID);
              END;
            END FOR;
          END IF;
        END IF;
      END IF;
      DO RELEASE_LOCK(due.database_lock);
      DO RELEASE_LOCK(CONCAT('drover:', due.migration));
    END;
  END FOR;
  DO RELEASE_LOCK('drover:watchdog');
END
