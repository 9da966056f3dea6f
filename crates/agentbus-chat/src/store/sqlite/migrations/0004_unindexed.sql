-- Messages that the search index does not hold yet, by their number.
CREATE TABLE chat_unindexed (seq INTEGER PRIMARY KEY);

-- Should AgentChatBus write to the file again after a crash: what the index does not hold must not
-- be taken out of it, and is indexed as it is then.
DROP TRIGGER chat_search_update;
CREATE TRIGGER chat_search_update AFTER UPDATE OF content ON messages
WHEN NOT EXISTS (SELECT 1 FROM chat_unindexed WHERE seq = old.seq) BEGIN
    INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', old.seq, old.content);
    INSERT INTO chat_search (rowid, content) VALUES (new.seq, new.content);
END;
DROP TRIGGER chat_search_delete;
CREATE TRIGGER chat_search_delete AFTER DELETE ON messages
WHEN NOT EXISTS (SELECT 1 FROM chat_unindexed WHERE seq = old.seq) BEGIN
    INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', old.seq, old.content);
END;
DROP TRIGGER chat_search_cjk_update;
CREATE TRIGGER chat_search_cjk_update AFTER UPDATE OF content ON messages
WHEN NOT EXISTS (SELECT 1 FROM chat_unindexed WHERE seq = old.seq)
    AND (old.content GLOB '*[⺀-鿿가-힯豈-﫿]*' OR new.content GLOB '*[⺀-鿿가-힯豈-﫿]*') BEGIN
    INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content)
        SELECT 'delete', old.seq, old.content WHERE old.content GLOB '*[⺀-鿿가-힯豈-﫿]*';
    INSERT INTO chat_search_cjk (rowid, content)
        SELECT new.seq, new.content WHERE new.content GLOB '*[⺀-鿿가-힯豈-﫿]*';
END;
DROP TRIGGER chat_search_cjk_delete;
CREATE TRIGGER chat_search_cjk_delete AFTER DELETE ON messages
WHEN NOT EXISTS (SELECT 1 FROM chat_unindexed WHERE seq = old.seq)
    AND old.content GLOB '*[⺀-鿿가-힯豈-﫿]*' BEGIN
    INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content)
        VALUES ('delete', old.seq, old.content);
END;
