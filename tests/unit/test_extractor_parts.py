from pathlib import Path

import numpy as np
import pytest

from actors.extraction.assembly import Assembler, Calibration, PairScores
from actors.extraction.decoding import TaggedSpan, begin_tag, decode_tags, inside_tag
from actors.extraction.sequence import CASINGS, TURN, Limits, SequenceBuilder
from actors.extraction.spans import DISTANCES, Node, distances, role_nodes
from actors.messages import KnownEntity, Relation, Utterance
from actors.runtimes.onnx import open_tokenizer
from config.schema import load_schema
from registry.bundled import BUNDLED

TOKENIZER = max(Path(BUNDLED).glob("extractor/*/tokenizer.json"))
SCHEMA = load_schema()


def builder(**limits: int) -> SequenceBuilder:
    return SequenceBuilder(open_tokenizer(TOKENIZER), Limits(**limits))


class TestSequence:
    def test_words_point_at_the_text_they_came_from(self) -> None:
        sequence = builder().build(
            "Émile's café, naïvely!", [True, False], [Utterance("user", "I met Émile."), Utterance("agent", "Où?")]
        )
        assert len(sequence.ids) == len(sequence.types)
        spelled = [(word.source, sequence.text(word, word)) for word in sequence.words]
        assert spelled[:5] == [(1, "I"), (1, "met"), (1, "Émile"), (1, "."), (2, "Où")]
        assert [text for source, text in spelled if source == TURN] == ["Émile", "'", "s", "café", ",", "naïvely", "!"]

    def test_case_travels_beside_the_tokens(self) -> None:
        sequence = builder().build("Emma saw NASA", [], [])
        assert [sequence.types[word.first] % CASINGS for word in sequence.words] == [1, 0, 2]
        assert {kind // CASINGS for kind in sequence.types[:4]} == {1}

    def test_the_oldest_context_goes_first(self) -> None:
        said = [Utterance("user", "one two three four"), Utterance("agent", "five six seven")]
        sequence = builder(context=6).build("eight", [True, False], said)
        assert [sequence.text(word, word) for word in sequence.words] == ["four", "five", "six", "seven", "eight"]

    def test_of_a_long_earlier_turn_the_end_is_read_at_its_own_place(self) -> None:
        said = "Tom lives in Graz. " * 3000 + "Emma lives in Lisbon."
        sequence = builder(context=6).build("Where?", [True], [Utterance("user", said)])
        earlier = [word for word in sequence.words if word.source != TURN]
        assert [sequence.text(word, word) for word in earlier] == ["Emma", "lives", "in", "Lisbon", "."]
        assert earlier[0].start == said.rindex("Emma")

    def test_known_entities_stand_before_the_context_unless_it_names_them(self) -> None:
        known = [KnownEntity("Bo", "PERSON"), KnownEntity("Emma", "PERSON"), KnownEntity("Casa Ofelia", "LOCATION")]
        sequence = builder().build("She left.", [True], [Utterance("user", "Emma came.")], known)
        spelled = [(word.source, sequence.text(word, word)) for word in sequence.words]
        assert spelled[:4] == [(1, "Casa"), (1, "Ofelia"), (2, "Bo"), (3, "Emma")]

    def test_known_entities_beyond_the_limit_are_left_out_whole(self) -> None:
        known = [KnownEntity("Emma", "PERSON"), KnownEntity("a name of very many words", "MISC")]
        sequence = builder(known=6).build("She left.", [], [], known)
        assert sequence.sources == ["She left.", "Emma"]

    def test_windows_cover_a_long_text_and_break_at_sentences(self) -> None:
        text = "Emma lives in Lisbon now. " * 30
        windows, unread = builder(turn=20).windows(text)
        assert unread == 0
        assert all(text[start:end].endswith(".") for start, end in windows)
        assert "".join(text[start:end] for start, end in windows).replace(" ", "") == text.replace(" ", "")

    def test_what_no_window_holds_is_counted(self) -> None:
        text = "word " * 100
        windows, unread = builder(turn=10, windows=3).windows(text)
        assert len(windows) == 3
        assert unread == len(text[windows[-1][1] :].strip()) > 0

    @pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x01", "\ud800", "x" * 5000, "🙂" * 400, "北京" * 300])
    def test_any_text_has_windows_that_fit(self, text: str) -> None:
        build = builder()
        windows, _ = build.windows(text)
        for start, end in windows:
            sequence = build.build(text[start:end], [], [])
            assert len(sequence.ids) <= 6 + 128
            assert sequence.words[-1].end == end - start


class TestTags:
    def test_the_best_legal_sequence_is_found(self) -> None:
        logits = np.zeros((5, 5), dtype=np.float32)
        logits[0, inside_tag(0)] = 9  # nothing has begun: this must become a begin
        logits[0, begin_tag(0)] = 8
        logits[1, inside_tag(0)] = 9
        logits[2, inside_tag(1)] = 9  # goes on with another label than what stands before
        logits[2, begin_tag(1)] = 8
        logits[3, 0] = logits[4, 0] = 9
        spans = decode_tags(logits)
        assert [(span.first, span.last, span.label) for span in spans] == [(0, 1, 0), (2, 2, 1)]
        assert all(0 < span.confidence <= 1 for span in spans)

    def test_neighbours_of_one_label_stay_apart(self) -> None:
        logits = np.full((2, 3), -5, dtype=np.float32)
        logits[:, begin_tag(0)] = 5
        assert [(span.first, span.last) for span in decode_tags(logits)] == [(0, 0), (1, 1)]

    def test_no_words_no_spans(self) -> None:
        assert decode_tags(np.zeros((0, 5), dtype=np.float32)) == []


ASSEMBLER = Assembler(SCHEMA, frozenset({"DATE"}), "PERSON", Calibration(threshold=0.5))
LABELS = ASSEMBLER.labels
SEQUENCE = builder().build("Ann left Oslo and she waved at noon", [True], [Utterance("user", "Bea called")])
WORDS = [word for word in SEQUENCE.words if word.source == TURN]
SPANS = [
    TaggedSpan(0, 0, LABELS.types.index("PERSON"), 0.9),
    TaggedSpan(2, 2, LABELS.types.index("LOCATION"), 0.9),
    TaggedSpan(4, 4, LABELS.pronoun, 0.9),
    TaggedSpan(7, 7, LABELS.types.index("DATE"), 0.9),
]
SPEAKER, ANN, OSLO, SHE, NOON = 0, 3, 4, 5, 6


class TestAssembly:
    """One short turn, with spans and scores made by hand."""

    def scores(self) -> PairScores:
        nodes = 3 + len(SPANS)
        relation = np.full((nodes, nodes, len(LABELS.predicates)), -9, dtype=np.float32)
        status = np.zeros((nodes, nodes, len(LABELS.statuses)), dtype=np.float32)
        time = np.zeros((nodes, nodes, nodes), dtype=np.float32)
        time[:, :, 0] = 1
        return PairScores(relation, status, time, np.zeros((nodes, 2, len(SEQUENCE.ids)), dtype=np.float32))

    def told(self, scores: PairScores) -> tuple[Relation, ...]:
        return ASSEMBLER.assemble(SEQUENCE, WORDS, SPANS, scores, 0.0).relations

    def predicate(self, name: str) -> int:
        return LABELS.predicates.index(name)

    def test_a_relation_has_its_arguments_status_and_time(self) -> None:
        scores = self.scores()
        scores.relation[ANN, OSLO, self.predicate("lives_in")] = 5
        scores.status[ANN, OSLO, LABELS.statuses.index("ended")] = 5
        scores.time[ANN, OSLO, NOON] = 5
        (relation,) = self.told(scores)
        assert (relation.subject, relation.predicate, relation.object) == ("Ann", "lives_in", "Oslo")
        assert (relation.status, relation.time) == ("ended", "noon")
        assert 0.5 < relation.confidence < 1

    def test_only_a_type_that_dates_may_date(self) -> None:
        scores = self.scores()
        scores.relation[ANN, OSLO, self.predicate("lives_in")] = 5
        scores.time[ANN, OSLO, OSLO] = 5
        assert self.told(scores)[0].time is None

    def test_the_schema_forbids_what_it_does_not_join(self) -> None:
        scores = self.scores()
        scores.relation[ANN, OSLO, self.predicate("married_to")] = 9
        scores.relation[OSLO, SPEAKER, self.predicate("lives_in")] = 9
        assert self.told(scores) == ()

    def test_a_pronoun_stands_for_its_antecedent(self) -> None:
        scores = self.scores()
        scores.relation[SHE, OSLO, self.predicate("lives_in")] = 5
        bea = next(word.first for word in SEQUENCE.words if SEQUENCE.text(word, word) == "Bea")
        scores.link[SHE, :, bea] = 9
        extraction = ASSEMBLER.assemble(SEQUENCE, WORDS, SPANS, scores, 0.25)
        (link,) = extraction.links
        assert (link.text, link.start, link.end, link.antecedent) == ("she", 18, 21, "Bea")
        assert [relation.subject for relation in extraction.relations] == ["Bea"]
        assert extraction.correction == 0.25

    def test_one_relation_per_pair_of_arguments_whichever_mention_carries_it(self) -> None:
        scores = self.scores()
        ann = WORDS[0].first
        scores.link[SHE, :, ann] = 9
        scores.relation[ANN, OSLO, self.predicate("traveled_to")] = 3
        scores.relation[SHE, OSLO, self.predicate("lives_in")] = 5
        (relation,) = self.told(scores)
        assert (relation.subject, relation.predicate) == ("Ann", "lives_in")

    def test_doubt_about_an_argument_lowers_confidence(self) -> None:
        scores = self.scores()
        scores.relation[ANN, OSLO, self.predicate("lives_in")] = 5
        (sure,) = self.told(scores)
        doubted = [*SPANS]
        doubted[0] = TaggedSpan(0, 0, LABELS.types.index("PERSON"), 0.5)
        (unsure,) = ASSEMBLER.assemble(SEQUENCE, WORDS, doubted, scores, 0.0).relations
        assert unsure.confidence < sure.confidence

    @pytest.mark.parametrize("earlier", ["Bea called", "A speaker broke"])
    def test_the_word_speaker_is_not_the_one_who_speaks(self, earlier: str) -> None:
        sequence = builder().build("Tom bought a speaker and it hums", [True], [Utterance("user", earlier)])
        words = [word for word in sequence.words if word.source == TURN]
        spans = [
            TaggedSpan(0, 0, LABELS.types.index("PERSON"), 0.9),
            TaggedSpan(3, 3, LABELS.types.index("PRODUCT"), 0.9),
            TaggedSpan(5, 5, LABELS.pronoun, 0.9),
        ]
        nodes, (tom, thing, it) = 6, (3, 4, 5)
        relation = np.full((nodes, nodes, len(LABELS.predicates)), -9, dtype=np.float32)
        relation[tom, [thing, it], self.predicate("owns")] = 5
        link = np.zeros((nodes, 2, len(sequence.ids)), dtype=np.float32)
        link[it, :, next(word.first for word in sequence.words if sequence.text(word, word) == "speaker")] = 9
        scores = PairScores(
            relation,
            np.zeros((nodes, nodes, len(LABELS.statuses)), dtype=np.float32),
            np.zeros((nodes, nodes, nodes), dtype=np.float32),
            link,
        )
        extraction = ASSEMBLER.assemble(sequence, words, spans, scores, 0.0)
        assert [mention.text for mention in extraction.mentions] == ["Tom", "speaker"]
        assert [link.antecedent for link in extraction.links] == ["speaker"]
        assert extraction.relations == ()

    def test_a_pronoun_without_anyone_to_mean_is_left_out(self) -> None:
        sequence = builder().build("she waved", [], [])
        words = [word for word in sequence.words if word.source == TURN]
        spans = [TaggedSpan(0, 0, LABELS.pronoun, 0.9)]
        scores = PairScores(
            np.full((4, 4, len(LABELS.predicates)), 5, dtype=np.float32),
            np.zeros((4, 4, len(LABELS.statuses)), dtype=np.float32),
            np.zeros((4, 4, 4), dtype=np.float32),
            np.zeros((4, 2, len(sequence.ids)), dtype=np.float32),
        )
        extraction = ASSEMBLER.assemble(sequence, words, spans, scores, 0.0)
        assert extraction.links == ()
        assert all({r.subject, r.object} <= {"speaker", "speaker_group", "listener"} for r in extraction.relations)


def test_distance_has_order_and_grows_with_the_gap() -> None:
    nodes = [*role_nodes(LABELS), Node(10, 10, 0), Node(11, 12, 0), Node(40, 40, 0)]
    classes = distances(nodes)
    assert classes.shape == (6, 6)
    assert set(np.unique(classes)) <= set(range(DISTANCES))
    assert classes[3, 4] != classes[4, 3]
    assert classes[3, 5] > classes[3, 4]
    assert (classes[:3] == classes[0, 0]).all()
