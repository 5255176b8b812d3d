import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of a consumer, by one of the two group protocols. */
final class Consume {
    private static final long TIME = 1_700_000_000_000L;

    private final String protocol;
    private final boolean modern;
    private final String topic;
    private final TopicPartition first;
    private final TopicPartition second;

    private Consume(String protocol) {
        this.protocol = protocol;
        this.modern = protocol.equals("consumer");
        this.topic = "c-" + protocol;
        this.first = new TopicPartition(topic, 0);
        this.second = new TopicPartition(topic, 1);
    }

    static void run(String protocol) {
        var all = new Consume(protocol);
        all.assigned();
        all.positions();
        all.commits();
        all.resets();
        all.groups();
        all.assignors();
        all.patterns();
        all.statics();
        all.evicted();
        all.changing();
    }

    private KafkaConsumer<String, String> member(String group, String... more) {
        List<String> pairs = new ArrayList<>(List.of("group.id", group, "group.protocol", protocol, "metadata.max.age.ms", "1000", "allow.auto.create.topics", "false"));
        if (!modern) pairs.addAll(List.of("heartbeat.interval.ms", "200", "session.timeout.ms", "6000"));
        pairs.addAll(List.of(more));
        return Env.consumer(pairs.toArray(new String[0]));
    }

    private void assigned() {
        Out.step("assign", () -> {
            Env.topic(topic, 2, "retention.ms", "-1");
            try (var producer = Env.producer("linger.ms", "5")) {
                for (int i = 0; i < 100; i++) producer.send(new ProducerRecord<>(topic, i % 2, TIME + i * 10, "k" + i, "v" + i));
            }
            try (var consumer = member("g-assign")) {
                consumer.assign(List.of(first, second));
                var all = Env.take(consumer, 100);
                return all.size() + " positions " + consumer.position(first) + "," + consumer.position(second) + " lag " + consumer.currentLag(first)
                        + " epochs " + Env.counts(all.stream().map(r -> r.leaderEpoch().toString()).toList());
            }
        });
        Out.step("pause", () -> {
            try (var consumer = member("g-assign", "max.poll.records", "10")) {
                consumer.assign(List.of(first, second));
                consumer.pause(List.of(first));
                var all = new ArrayList<ConsumerRecord<String, String>>();
                Out.await("all of the other", 30, () -> {
                    consumer.poll(Env.TICK).forEach(all::add);
                    return consumer.position(second) == 50;
                });
                String paused = Out.render(consumer.paused()) + Env.counts(all.stream().map(ConsumerRecord::partition).toList());
                consumer.resume(List.of(first));
                var rest = Env.take(consumer, 50);
                return paused + " then " + Env.counts(rest.stream().map(ConsumerRecord::partition).toList());
            }
        });
        Out.step("wait", () -> {
            // fetch.min.bytes can't be had: the answer comes after the wait, and with what there is.
            try (var consumer = member("g-assign", "fetch.min.bytes", "1000000", "fetch.max.wait.ms", "300", "client.rack", "rack-7", "check.crcs", "true")) {
                consumer.assign(List.of(first, second));
                return Env.take(consumer, 100).size();
            }
        });
        Out.step("client-instance-id", () -> {
            try (var consumer = member("g-assign")) {
                return consumer.clientInstanceId(Duration.ofSeconds(5));
            }
        });
        Out.step("wakeup", () -> {
            try (var consumer = member("g-assign")) {
                consumer.assign(List.of(first));
                consumer.seekToEnd(List.of(first));
                consumer.wakeup();
                return consumer.poll(Duration.ofSeconds(20));
            }
        });
        Out.step("unknown-topic", () -> {
            try (var consumer = member("g-assign", "default.api.timeout.ms", "3000")) {
                String partitions = Out.tried(() -> consumer.partitionsFor("c-never-made"));
                consumer.assign(List.of(new TopicPartition("c-never-made", 0)));
                return partitions + " " + consumer.poll(Duration.ofMillis(500)).count() + " "
                        + Out.tried(() -> consumer.endOffsets(List.of(new TopicPartition("c-never-made", 0)))) + " "
                        + Out.tried(() -> consumer.position(new TopicPartition("c-never-made", 0), Duration.ofSeconds(2)));
            }
        });
        Out.step("bad-topic", () -> {
            try (var consumer = member("g-assign")) {
                consumer.subscribe(List.of("bad name!"));
                return Out.tried(() -> {
                    for (int i = 0; i < 20; i++) consumer.poll(Env.TICK);
                    return "nothing";
                });
            }
        });
    }

    private void positions() {
        Out.step("seek", () -> {
            try (var consumer = member("g-assign", "max.poll.records", "5")) {
                consumer.assign(List.of(first));
                List<Object> seen = new ArrayList<>();
                consumer.seek(first, 20);
                seen.add(Env.take(consumer, 5).get(0).value());
                consumer.seek(first, new OffsetAndMetadata(30, Optional.of(0), ""));
                seen.add(Env.take(consumer, 5).get(0).value());
                consumer.seekToBeginning(List.of(first));
                seen.add(consumer.position(first));
                consumer.seekToEnd(List.of(first));
                seen.add(consumer.position(first));
                return seen;
            }
        });
        Out.step("offsets-for-times", () -> {
            try (var consumer = member("g-assign")) {
                Map<TopicPartition, Long> ask = new HashMap<>();
                List<Object> seen = new ArrayList<>();
                for (long time : new long[] {0, TIME, TIME + 5, TIME + 333, TIME + 990, TIME + 991, Long.MAX_VALUE}) {
                    ask.put(first, time);
                    ask.put(second, time);
                    var found = consumer.offsetsForTimes(ask);
                    seen.add((found.get(first) == null ? "none" : found.get(first).toString()) + (found.get(second) == null ? "none" : found.get(second).toString()));
                }
                return String.join(" ", seen.stream().map(Object::toString).toList());
            }
        });
        Out.step("ends", () -> {
            try (var consumer = member("g-assign")) {
                return consumer.beginningOffsets(List.of(first, second)) + " " + consumer.endOffsets(List.of(first, second)) + " "
                        + Out.render(consumer.partitionsFor(topic).stream().sorted((a, b) -> a.partition() - b.partition()).toList()) + " " + consumer.listTopics().containsKey(topic);
            }
        });
        Out.step("deleted-records", () -> {
            String one = Env.topic(topic + "-deleted", 1);
            var partition = new TopicPartition(one, 0);
            Env.fill(one, 0, 0, 30);
            Env.admin.deleteRecords(Map.of(partition, org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(12))).all().get();
            try (var consumer = member("g-deleted", "auto.offset.reset", "none"); var lenient = member("g-deleted")) {
                consumer.assign(List.of(partition));
                consumer.seek(partition, 3);
                String strict = Out.tried(() -> Env.take(consumer, 1));
                lenient.assign(List.of(partition));
                lenient.seek(partition, 3);
                return strict + " " + Env.take(lenient, 18).get(0).offset() + " " + lenient.beginningOffsets(List.of(partition));
            }
        });
    }

    private void commits() {
        Out.step("commit", () -> {
            try (var consumer = member("g-commit")) {
                consumer.assign(List.of(first, second));
                String before = Out.render(consumer.committed(Set.of(first, second)));
                consumer.commitSync(Map.of(first, new OffsetAndMetadata(17, Optional.of(0), "a note"), second, new OffsetAndMetadata(4)));
                String after = Out.render(consumer.committed(Set.of(first, second)));
                Object[] answer = {null};
                consumer.commitAsync(Map.of(first, new OffsetAndMetadata(18)), (offsets, error) -> answer[0] = error == null ? offsets : error);
                Out.await("the answer", 20, () -> {
                    consumer.poll(Env.TICK);
                    return answer[0] != null;
                });
                return before + " " + after + " " + Out.render(answer[0]) + " " + Out.render(consumer.committed(Set.of(first)));
            }
        });
        Out.step("commit-read-back", () -> {
            try (var consumer = member("g-commit")) {
                consumer.assign(List.of(first, second));
                return consumer.position(first) + " " + consumer.position(second) + " " + consumer.groupMetadata().groupId();
            }
        });
        Out.step("commit-large-metadata", () -> {
            try (var consumer = member("g-commit")) {
                consumer.assign(List.of(first));
                return Out.tried(() -> {
                    consumer.commitSync(Map.of(first, new OffsetAndMetadata(1, "x".repeat(4096))));
                    return "fits";
                }) + " " + Out.tried(() -> {
                    consumer.commitSync(Map.of(first, new OffsetAndMetadata(1, "x".repeat(4097))));
                    return "fits";
                });
            }
        });
        Out.step("commit-unknown-topic", () -> {
            try (var consumer = member("g-commit", "default.api.timeout.ms", "3000")) {
                return Out.tried(() -> {
                    consumer.commitSync(Map.of(new TopicPartition("c-no-such", 0), new OffsetAndMetadata(1)));
                    return "committed";
                }) + " " + Out.tried(() -> {
                    consumer.commitSync(Map.of(new TopicPartition(topic, 77), new OffsetAndMetadata(1)));
                    return "committed";
                });
            }
        });
        Out.step("auto-commit", () -> {
            try (var consumer = member("g-auto", "enable.auto.commit", "true", "auto.commit.interval.ms", "100")) {
                consumer.subscribe(List.of(topic));
                Env.take(consumer, 100);
            }
            return Env.admin.listConsumerGroupOffsets("g-auto").partitionsToOffsetAndMetadata().get();
        });
    }

    private void resets() {
        Out.step("reset-none", () -> {
            try (var consumer = member("g-none", "auto.offset.reset", "none")) {
                consumer.assign(List.of(first));
                return Out.tried(() -> consumer.poll(Duration.ofSeconds(5))) + " " + Out.tried(() -> consumer.position(first));
            }
        });
        Out.step("reset-latest", () -> {
            try (var consumer = member("g-latest", "auto.offset.reset", "latest")) {
                consumer.assign(List.of(first));
                return consumer.position(first);
            }
        });
        Out.step("reset-by-duration", () -> {
            try (var consumer = member("g-duration", "auto.offset.reset", "by_duration:P10000D")) {
                consumer.assign(List.of(first));
                return consumer.position(first);
            }
        });
        Out.step("out-of-range", () -> {
            try (var strict = member("g-range", "auto.offset.reset", "none"); var earliest = member("g-range")) {
                strict.assign(List.of(first));
                strict.seek(first, 5000);
                earliest.assign(List.of(first));
                earliest.seek(first, 5000);
                return Out.tried(() -> Env.take(strict, 1)) + " " + Env.take(earliest, 50).get(0).offset();
            }
        });
    }

    /** Polls every member in turn until the condition holds. */
    @SafeVarargs
    private static void turn(String what, Out.Condition condition, KafkaConsumer<String, String>... members) throws Exception {
        Out.await(what, 60, () -> {
            for (var one : members) one.poll(Duration.ofMillis(20));
            return condition.holds();
        });
    }

    private static int held(KafkaConsumer<String, String> member) {
        return member.assignment().size();
    }

    private void groups() {
        Out.step("one-member", () -> {
            try (var consumer = member("g-one")) {
                consumer.subscribe(List.of(topic));
                var all = Env.take(consumer, 100);
                var me = consumer.groupMetadata();
                consumer.commitSync();
                return all.size() + " " + consumer.assignment() + " " + me.groupId() + " member " + !me.memberId().isEmpty() + " instance "
                        + me.groupInstanceId() + " generation " + (me.generationId() > 0) + " " + Out.render(consumer.committed(consumer.assignment()));
            }
        });
        Out.step("two-members", () -> {
            String six = Env.topic(topic + "-six", 6);
            List<String> events = new ArrayList<>();
            try (var one = member("g-two"); var two = member("g-two")) {
                one.subscribe(List.of(six), listener("one", events));
                turn("one has all", () -> held(one) == 6, one);
                two.subscribe(List.of(six), listener("two", events));
                turn("halves", () -> held(one) == 3 && held(two) == 3, one, two);
                Set<TopicPartition> together = new TreeSet<>(java.util.Comparator.comparing(TopicPartition::toString));
                together.addAll(one.assignment());
                together.addAll(two.assignment());
                String halves = together.size() + " together";
                one.unsubscribe();
                turn("two has all", () -> held(two) == 6, two);
                return halves + " " + (events.stream().anyMatch(e -> e.startsWith("one revoked"))) + " " + held(one);
            }
        });
        Out.step("enforce-rebalance", () -> {
            // The new protocol has no such thing: the client says so and goes on.
            List<String> events = new ArrayList<>();
            try (var consumer = member("g-enforced")) {
                consumer.subscribe(List.of(topic), listener("one", events));
                turn("assigned", () -> held(consumer) == 2, consumer);
                int before = events.size();
                consumer.enforceRebalance("asked for");
                if (!modern) turn("assigned again", () -> events.size() > before && held(consumer) == 2, consumer);
                return events.subList(before, events.size()).stream().distinct().sorted().toList();
            }
        });
        Out.step("different-topics", () -> {
            String other = Env.topic(topic + "-other", 3);
            try (var one = member("g-mixed"); var two = member("g-mixed")) {
                one.subscribe(List.of(topic));
                two.subscribe(List.of(topic, other));
                turn("settled", () -> held(one) >= 1 && held(two) >= 3 && held(one) + held(two) == 5, one, two);
                return one.assignment().stream().map(TopicPartition::topic).distinct().sorted().toList() + " "
                        + two.assignment().stream().map(TopicPartition::topic).distinct().sorted().toList();
            }
        });
        Out.step("describe", () -> {
            try (var one = member("g-described", "client.id", "described")) {
                one.subscribe(List.of(topic));
                turn("assigned", () -> held(one) == 2, one);
                one.commitSync(Map.of(first, new OffsetAndMetadata(5)));
                String live = Out.render(Env.admin.describeConsumerGroups(List.of("g-described")).all());
                String remove = Out.tried(() -> Env.admin.deleteConsumerGroups(List.of("g-described")).all());
                String offsets = Out.tried(() -> Env.admin.deleteConsumerGroupOffsets("g-described", Set.of(first)).partitionResult(first));
                String alter = Out.tried(() -> Env.admin.alterConsumerGroupOffsets("g-described", Map.of(first, new OffsetAndMetadata(1))).all());
                one.unsubscribe();
                one.close();
                Out.await("it is empty", 20, () -> Env.admin.describeConsumerGroups(List.of("g-described")).all().get().get("g-described").members().isEmpty());
                return live + "\n" + remove + " " + offsets + " " + alter + "\n" + Out.render(Env.admin.describeConsumerGroups(List.of("g-described")).all()) + "\n"
                        + Out.tried(() -> Env.admin.deleteConsumerGroups(List.of("g-described")).all()) + " "
                        + Out.tried(() -> Env.admin.describeConsumerGroups(List.of("g-described")).all());
            }
        });
    }

    private static ConsumerRebalanceListener listener(String who, List<String> events) {
        return new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                events.add(who + " revoked " + partitions.size());
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                events.add(who + " assigned " + partitions.size());
            }

            @Override
            public void onPartitionsLost(Collection<TopicPartition> partitions) {
                events.add(who + " lost " + partitions.size());
            }
        };
    }

    private void assignors() {
        List<String> names = modern ? List.of("uniform", "range", "no-such-assignor")
                : List.of("Range", "RoundRobin", "Sticky", "CooperativeSticky");
        String five = topic + "-five";
        Out.step("assignor-topic", () -> Env.topic(five, 5));
        for (String name : names) {
            Out.step("assignor-" + name, () -> {
                String[] more = modern ? new String[] {"group.remote.assignor", name}
                        : new String[] {"partition.assignment.strategy", "org.apache.kafka.clients.consumer." + name + "Assignor"};
                try (var one = member("g-" + name, more); var two = member("g-" + name, more)) {
                    List<String> events = new ArrayList<>();
                    one.subscribe(List.of(five, topic), listener("one", events));
                    turn("one has all", () -> held(one) == 7, one);
                    two.subscribe(List.of(five, topic), listener("two", events));
                    turn("shared", () -> held(one) >= 3 && held(two) >= 3 && held(one) + held(two) == 7, one, two);
                    var sizes = new TreeSet<>(List.of(held(one), held(two)));
                    var described = Env.admin.describeConsumerGroups(List.of("g-" + name)).all().get().get("g-" + name);
                    return sizes + " " + described.partitionAssignor() + " " + described.members().size();
                }
            });
        }
    }

    private void patterns() {
        Out.step("java-pattern", () -> {
            Env.topic(topic + "-pattern-a", 1);
            try (var consumer = member("g-pattern")) {
                consumer.subscribe(Pattern.compile(Pattern.quote(topic) + "-pattern-.*"));
                turn("one topic", () -> held(consumer) == 1, consumer);
                Env.topic(topic + "-pattern-b", 2);
                turn("both topics", () -> held(consumer) == 3, consumer);
                return consumer.subscription().stream().sorted().toList();
            }
        });
        Out.step("re2-pattern", () -> {
            try (var consumer = member("g-re2")) {
                consumer.subscribe(new SubscriptionPattern(topic + "-pattern-[ab]"));
                turn("topics by pattern", () -> held(consumer) == 3, consumer);
                Env.fill(topic + "-pattern-b", 1, 0, 4);
                return Env.take(consumer, 4).size() + " " + consumer.assignment().stream().map(TopicPartition::toString).sorted().toList();
            }
        });
        Out.step("re2-new-topic", () -> {
            if (!modern) return "is for the new protocol";
            try (var consumer = member("g-re2-new")) {
                consumer.subscribe(new SubscriptionPattern(topic + "-later-.+"));
                consumer.poll(Duration.ofMillis(500));
                Env.topic(topic + "-later-x", 2);
                turn("the topic made later", () -> held(consumer) == 2, consumer);
                consumer.subscribe(new SubscriptionPattern(topic + "-pattern-b"));
                turn("another pattern", () -> held(consumer) == 2 && consumer.assignment().stream().allMatch(p -> p.topic().endsWith("-b")), consumer);
                return consumer.assignment().stream().map(TopicPartition::toString).sorted().toList();
            }
        });
        Out.step("re2-invalid", () -> {
            for (String pattern : List.of("(unclosed", "a{2,1}", "(?=look)ahead", "\\1")) {
                try (var consumer = member("g-re2-invalid")) {
                    consumer.subscribe(new SubscriptionPattern(pattern));
                    String outcome = Out.tried(() -> {
                        turn("an error", () -> false, consumer);
                        return "";
                    });
                    if (!outcome.startsWith("!InvalidRegularExpression")) return pattern + " " + outcome;
                    if (!modern) return outcome;
                }
            }
            return "all are refused";
        });
    }

    private void statics() {
        Out.step("static-comes-back", () -> {
            List<String> events = new ArrayList<>();
            try (var other = member("g-static", "group.instance.id", "b")) {
                var one = member("g-static", "group.instance.id", "a");
                one.subscribe(List.of(topic + "-six"), listener("one", events));
                other.subscribe(List.of(topic + "-six"), listener("other", events));
                turn("halves", () -> held(one) == 3 && held(other) == 3, one, other);
                var before = one.assignment();
                var others = other.assignment();
                one.close();
                int known = events.size();
                try (var again = member("g-static", "group.instance.id", "a")) {
                    again.subscribe(List.of(topic + "-six"));
                    turn("its half again", () -> held(again) == 3, again, other);
                    var members = Env.admin.describeConsumerGroups(List.of("g-static")).all().get().get("g-static").members();
                    return "same " + again.assignment().equals(before) + " undisturbed " + other.assignment().equals(others) + " "
                            + events.subList(known, events.size()).stream().filter(e -> e.startsWith("other") && !e.endsWith(" 0")).toList() + " "
                            + members.stream().map(m -> m.groupInstanceId().orElse("none")).sorted().toList();
                }
            }
        });
        Out.step("static-twice", () -> {
            try (var one = member("g-twice", "group.instance.id", "a"); var two = member("g-twice", "group.instance.id", "a")) {
                one.subscribe(List.of(topic));
                turn("has all", () -> held(one) == 2, one);
                two.subscribe(List.of(topic));
                String outcome = Out.tried(() -> {
                    turn("one of them is refused", () -> held(two) == 2, two);
                    return "taken over";
                });
                return outcome + " " + Out.tried(() -> {
                    turn("settled", () -> modern && held(one) == 2, one);
                    one.commitSync(Map.of(first, new OffsetAndMetadata(1)));
                    return "the first stays";
                });
            }
        });
        Out.step("static-removed", () -> {
            try (var one = member("g-removed", "group.instance.id", "a")) {
                one.subscribe(List.of(topic));
                turn("has all", () -> held(one) == 2, one);
                String removed = Out.tried(() -> Env.admin.removeMembersFromConsumerGroup("g-removed",
                        new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("a")))).all());
                String unknown = Out.tried(() -> Env.admin.removeMembersFromConsumerGroup("g-removed",
                        new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("nobody")))).memberResult(new MemberToRemove("nobody")));
                return removed + " " + unknown + " " + Out.tried(() -> {
                    one.commitSync(Map.of(first, new OffsetAndMetadata(1)));
                    return "committed";
                });
            }
        });
    }

    private void evicted() {
        Out.step("slow-poll", () -> {
            List<String> events = new ArrayList<>();
            try (var slow = member("g-slow", "max.poll.interval.ms", "1500"); var other = member("g-slow")) {
                slow.subscribe(List.of(topic), listener("slow", events));
                turn("slow has all", () -> held(slow) == 2, slow);
                other.subscribe(List.of(topic));
                // The first doesn't poll any more: the other must get everything.
                turn("other has all", () -> held(other) == 2, other);
                String commit = Out.tried(() -> {
                    slow.commitSync(Map.of(first, new OffsetAndMetadata(1)));
                    return "committed";
                });
                turn("shared again", () -> held(slow) == 1 && held(other) == 1, slow, other);
                return commit + " lost " + events.contains("slow lost 2");
            }
        });
        Out.step("removed", () -> {
            try (var one = member("g-kicked")) {
                one.subscribe(List.of(topic));
                turn("has all", () -> held(one) == 2, one);
                String removed = Out.tried(() -> Env.admin.removeMembersFromConsumerGroup("g-kicked", new RemoveMembersFromConsumerGroupOptions()).all());
                if (modern) return removed;
                String commit = Out.tried(() -> {
                    one.commitSync(Map.of(first, new OffsetAndMetadata(1)));
                    return "committed";
                });
                turn("is back", () -> held(one) == 2, one);
                return removed + " " + commit;
            }
        });
        Out.step("commit-into-a-live-group", () -> {
            try (var one = member("g-live"); var stranger = member("g-live")) {
                one.subscribe(List.of(topic));
                turn("has all", () -> held(one) == 2, one);
                stranger.assign(List.of(first));
                return Out.tried(() -> {
                    stranger.commitSync(Map.of(first, new OffsetAndMetadata(1)));
                    return "committed";
                });
            }
        });
    }

    private void changing() {
        Out.step("more-partitions", () -> {
            String grows = Env.topic(topic + "-grows", 1);
            try (var consumer = member("g-grows")) {
                consumer.subscribe(List.of(grows));
                Env.fill(grows, 0, 0, 10);
                int had = Env.take(consumer, 10).size();
                Env.admin.createPartitions(Map.of(grows, NewPartitions.increaseTo(3))).all().get();
                Out.await("three partitions", 20, () -> Env.exists(grows, 3));
                Env.fill(grows, 2, 10, 20);
                return had + " " + Env.take(consumer, 10).stream().map(ConsumerRecord::partition).distinct().toList() + " " + held(consumer);
            }
        });
        Out.step("topic-deleted", () -> {
            String goes = Env.topic(topic + "-goes", 1);
            String stays = Env.topic(topic + "-stays", 1);
            try (var consumer = member("g-goes")) {
                consumer.subscribe(List.of(goes, stays));
                turn("both", () -> held(consumer) == 2, consumer);
                Env.admin.deleteTopics(List.of(goes)).all().get();
                turn("one left", () -> held(consumer) == 1, consumer);
                Env.fill(stays, 0, 0, 3);
                return Env.take(consumer, 3).size() + " " + consumer.assignment();
            }
        });
        Out.step("topic-made-again", () -> {
            String again = Env.topic(topic + "-again", 1);
            Env.fill(again, 0, 0, 10);
            try (var consumer = member("g-again")) {
                consumer.subscribe(List.of(again));
                int had = Env.take(consumer, 10).size();
                consumer.commitSync();
                Env.admin.deleteTopics(List.of(again)).all().get();
                turn("nothing left", () -> held(consumer) == 0, consumer);
                Env.topic(again, 1);
                Env.fill(again, 0, 100, 105);
                turn("the new one, to its end", () -> held(consumer) == 1 && consumer.position(new TopicPartition(again, 0)) == 5, consumer);
                return had + " position " + Out.tried(() -> consumer.position(new TopicPartition(again, 0))) + " committed "
                        + Out.render(consumer.committed(Set.of(new TopicPartition(again, 0))));
            }
        });
        Out.step("throughput", () -> {
            String busy = Env.topic(topic + "-busy", 4);
            try (var producer = Env.producer("linger.ms", "5", "compression.type", "lz4")) {
                for (int i = 0; i < 20_000; i++) producer.send(new ProducerRecord<>(busy, "key" + i, "value " + i));
            }
            try (var one = member("g-busy"); var two = member("g-busy")) {
                one.subscribe(List.of(busy));
                two.subscribe(List.of(busy));
                Map<String, Integer> seen = new TreeMap<>();
                Out.await("20000 values", 60, () -> {
                    for (var member : List.of(one, two)) {
                        member.poll(Env.TICK).forEach(r -> seen.merge(r.value(), 1, Integer::sum));
                        member.commitSync();
                    }
                    return seen.size() >= 20_000;
                });
                return seen.size() + " values";
            }
        });
    }
}
