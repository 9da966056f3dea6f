-- Cards that wait for a person are looked for over all threads, and are few among the messages.
CREATE INDEX messages_for_people ON messages (seq) WHERE human_only AND role = 'system';
