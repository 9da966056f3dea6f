-- Messages that the search index does not hold yet, by their number.
CREATE TABLE chat_unindexed (seq INTEGER PRIMARY KEY);
