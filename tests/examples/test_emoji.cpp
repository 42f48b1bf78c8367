// SPDX-License-Identifier: Apache-2.0
// Tests of the emoji data set: captions, splits, drawing and scoring; the font's bitmaps where the font is.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../../examples/emoji/dataset.hpp"
#include "../../examples/emoji/scoring.hpp"
#include "catch.hpp"

#if __has_include(<ft2build.h>) && __has_include(<hb-ft.h>)
#define MOBILEDIFFUSION_TEST_FONT 1
#include "../../examples/emoji/bitmaps.hpp"
#endif

namespace {

using namespace emoji;

constexpr const char* list = R"(# group: Animals & Nature
# subgroup: animal-mammal
1F98A                                                  ; fully-qualified     # x E3.0 fox
1F42D                                                  ; fully-qualified     # x E0.6 mouse
1F989                                                  ; fully-qualified     # x E3.0 owl
1F411                                                  ; fully-qualified     # x E0.6 ewe
1F43F FE0F                                             ; fully-qualified     # x E0.7 chipmunk
1F43F                                                  ; unqualified         # x E0.7 chipmunk
# group: Food & Drink
# subgroup: food-fruit
1F34E                                                  ; fully-qualified     # x E0.6 red apple
1F35E                                                  ; fully-qualified     # x E0.6 bread
1F95B                                                  ; fully-qualified     # x E3.0 glass of milk
# group: Travel & Places
# subgroup: place-building
1F5FC                                                  ; fully-qualified     # x E0.6 Tokyo tower
)";

std::vector<Entry> small_list() {
  std::istringstream in(list);
  return parse_names(in);
}

// Concept i as a disc with one bar: all different, soft edges, every colour far from some backgrounds only.
Bitmaps discs(std::size_t n) {
  std::vector<std::vector<std::uint8_t>> out(n, std::vector<std::uint8_t>(bitmap_bytes, 0));
  for (std::size_t i = 0; i < n; ++i)
    for (int y = 0; y < 128; ++y)
      for (int x = 0; x < 128; ++x) {
        const int d = (x - 64) * (x - 64) + (y - 64) * (y - 64);
        const unsigned a = d < 50 * 50 ? 255 : d < 54 * 54 ? 128 : 0;
        const bool bar = (x + y * static_cast<int>(i)) / 16 % 3 == 0;
        auto* p = &out[i][static_cast<std::size_t>(y * 128 + x) * 4];
        p[0] = static_cast<std::uint8_t>(times_byte(bar ? 30 : static_cast<unsigned>(i * 25), a));
        p[1] = static_cast<std::uint8_t>(times_byte(bar ? 90 : 10, a));
        p[2] = static_cast<std::uint8_t>(times_byte(bar ? 255 : 60, a));
        p[3] = static_cast<std::uint8_t>(a);
      }
  return Bitmaps(std::move(out));
}

std::string noun(const char* cldr) { return phrase_for(cldr).with_article(); }
std::string many(const char* cldr) { return phrase_for(cldr).plural; }

}  // namespace

TEST_CASE("emoji: the list of names is parsed", "[emoji]") {
  const auto entries = small_list();
  REQUIRE(entries.size() == 9);
  CHECK(entries[0].name == "fox");
  CHECK(entries[0].group == "Animals & Nature");
  CHECK(entries[0].subgroup == "animal-mammal");
  CHECK(entries[4].code_points == std::u32string{0x1F43F, 0xFE0F});
  CHECK(entries[7].name == "glass of milk");
  std::istringstream broken("1F98A fully-qualified fox\n"), letters("1G98A ; fully-qualified # x E3.0 fox\n");
  CHECK_THROWS_AS(parse_names(broken), mobilediffusion::Error);
  CHECK_THROWS_AS(parse_names(letters), mobilediffusion::Error);
  CHECK_THROWS_AS(read_names("no such file"), mobilediffusion::Error);
}

TEST_CASE("emoji: captions are English", "[emoji]") {
  CHECK(noun("fox") == "a fox");
  CHECK(noun("owl") == "an owl");
  CHECK(noun("unicorn") == "a unicorn");
  CHECK(noun("hourglass done") == "a finished hourglass");
  CHECK(noun("x-ray") == "an x-ray");
  CHECK(noun("euro banknote") == "a euro banknote");
  CHECK(noun("bread") == "a loaf of bread");
  CHECK(noun("Tokyo tower") == "the Tokyo Tower");
  CHECK(noun("mount fuji") == "Mount Fuji");
  CHECK(noun("four o’clock") == "a clock showing four o'clock");
  CHECK(many("fox") == "foxes");
  CHECK(many("glass of milk") == "glasses of milk");
  CHECK(many("grapes") == "bunches of grapes");
  CHECK(many("sunglasses") == "pairs of sunglasses");
  CHECK(many("computer mouse") == "computer mice");
  CHECK(many("tropical fish") == "tropical fish");
  CHECK(many("ewe") == "sheep");
  CHECK(many("ox") == "oxen");
  CHECK(many("leaf fluttering in wind") == "leaves fluttering in the wind");
  CHECK(many("butterfly") == "butterflies");
  CHECK(many("monkey") == "monkeys");
  CHECK(many("woman’s boot") == "women's boots");
  CHECK(many("snowman without snow") == "snowmen without snow");
  CHECK(many("Tokyo tower").empty());
  CHECK(person_noun({"astronaut", 0, 1, 4}) == "woman astronaut with medium-dark skin tone");
  CHECK(person_noun({"singer", 0, 2, 0}) == "singer");
  CHECK(person_noun({"juggling", 0, 2, 1}) == "person juggling with light skin tone");
  CHECK(person_noun({"with a beard", 0, 0, 5}) == "man with a beard and dark skin tone");
}

TEST_CASE("emoji: levels nest", "[emoji]") {
  const auto entries = small_list();
  const Vocabulary few(Level::animals_and_foods, entries), more(Level::objects, entries);
  REQUIRE(few.size() == 8);
  REQUIRE(more.size() == 9);
  for (std::size_t i = 0; i < few.size(); ++i) CHECK(few[i].name == more[i].name);
  CHECK(more.find("Tokyo tower") == 8);
  CHECK_THROWS_AS(few.find("Tokyo tower"), mobilediffusion::Error);
  const Vocabulary some = more.some(4), all = more.some(99);
  REQUIRE(some.size() == 4);
  CHECK(some.rivals(3) == std::pair<std::size_t, std::size_t>{0, 4});
  for (std::size_t i = 0; i < 4; ++i) CHECK(some[i].name == more[i * 9 / 4].name);
  CHECK(all.size() == 9);
  CHECK_THROWS_AS(more.some(0), mobilediffusion::Error);
  CHECK(level_from("all") == Level::all);
  CHECK_THROWS_AS(level_from("everything"), mobilediffusion::Error);
}

TEST_CASE("emoji: backgrounds are well apart", "[emoji]") {
  for (std::size_t a = 0; a < backgrounds.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) {
      int d = 0;
      for (std::size_t c = 0; c < 3; ++c)
        d += (backgrounds[a].rgb[c] - backgrounds[b].rgb[c]) * (backgrounds[a].rgb[c] - backgrounds[b].rgb[c]);
      INFO(backgrounds[a].name << " and " << backgrounds[b].name);
      CHECK(d >= 60 * 60);
    }
}

TEST_CASE("emoji: resampling keeps area and edges", "[emoji]") {
  std::vector<std::uint8_t> flat(bitmap_bytes);
  for (std::size_t i = 0; i < flat.size(); i += 4) {
    flat[i] = 100;
    flat[i + 1] = 50;
    flat[i + 2] = 25;
    flat[i + 3] = 200;
  }
  for (const std::size_t size : {128u, 108u, 60u, 37u, 1u}) {
    const auto small = resized(flat, size);
    REQUIRE(small.size() == size * size * 4);
    bool same = true;
    for (std::size_t i = 0; i < small.size(); i += 4) same = same && std::equal(&small[i], &small[i] + 4, flat.begin());
    CHECK(same);
  }
  // The left half opaque red: after shrinking, colour never exceeds alpha (no halo), and the total stays.
  std::vector<std::uint8_t> half(bitmap_bytes, 0);
  for (std::size_t i = 0; i < half.size(); i += 4)
    if (i / 4 % 128 < 63) half[i] = half[i + 3] = 255;
  const auto small = resized(half, 60);
  double total = 0;
  for (std::size_t i = 0; i < small.size(); i += 4) {
    CHECK(small[i] == small[i + 3]);
    total += small[i];
  }
  CHECK(total / (60.0 * 60.0 * 255.0) == Approx(63.0 / 128.0).margin(0.001));
  CHECK_THROWS_AS(resized(half, 0), mobilediffusion::Error);
  CHECK_THROWS_AS(resized(half, 129), mobilediffusion::Error);
}

TEST_CASE("emoji: drawing puts the object on its background", "[emoji]") {
  const Bitmaps bitmaps = discs(2);
  const auto picture = bitmaps.render({{layout::single(1)}, 6});
  REQUIRE(picture.size() == picture_bytes);
  CHECK(std::equal(picture.begin(), picture.begin() + 3, backgrounds[6].rgb.begin()));
  CHECK(visible_share(bitmaps[1], {"ink", {30, 90, 255}}) < 1.0f);
  CHECK(visible_share(bitmaps[1], backgrounds[0]) == 1.0f);
  std::vector<float> values(picture_bytes);
  bitmaps.render({{layout::single(1)}, 6}, std::span<float>(values));
  CHECK(to_bytes(values) == picture);
  CHECK_THROWS_AS(bitmaps.render({{layout::single(2)}, 0}), mobilediffusion::Error);
  CHECK_THROWS_AS(bitmaps.render({{}, 12}), mobilediffusion::Error);
}

TEST_CASE("emoji: training never shows what is held out", "[emoji]") {
  const auto entries = small_list();
  const Vocabulary vocabulary(Level::objects, entries);
  Visibility visible(vocabulary.size());
  for (auto& row : visible) row.fill(true);
  visible[0][3] = false;
  const Dataset data(vocabulary, visible, 7), again(vocabulary, visible, 7), other(vocabulary, visible, 8);
  std::set<Task> tasks;
  std::size_t differs = 0, two_objects[2] = {};
  for (std::uint64_t k = 0; k < 4000; ++k) {
    const Mixture& mixture = k % 2 == 0 ? singles_mixture : scenes_mixture;
    const Sample s = data.training_sample(k, mixture), same = again.training_sample(k, mixture);
    tasks.insert(s.task);
    two_objects[k % 2] += s.task == Task::pair || s.task == Task::size;
    bool fine = !data.held_out(s) && s.caption == same.caption && s.scene == same.scene;
    differs += s.caption != other.training_sample(k, mixture).caption;
    for (const Placement& p : s.scene.objects) {
      fine = fine && data.training_background(p.concept_id, s.scene.background) && p.x >= 0 && p.y >= 0 && p.x + p.size <= 128 &&
             p.y + p.size <= 128;
      fine = fine && !(p.concept_id == 0 && s.scene.background == 3);
    }
    const auto& o = s.scene.objects;
    if (s.task == Task::count) fine = fine && !data.heldout_count(o[0].concept_id, o.size());
    if (s.task == Task::pair || s.task == Task::size) fine = fine && !data.heldout_pair(o[0].concept_id, o[1].concept_id);
    if (!fine) FAIL_CHECK("sample " << k << ": " << s.caption);
  }
  CHECK(tasks.size() == 4);
  CHECK(differs > 2000);
  CHECK(two_objects[0] == Approx(2000 * 0.25).epsilon(0.15));
  CHECK(two_objects[1] == Approx(2000 * 0.65).epsilon(0.1));
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    CHECK(data.heldout_background(i) != Dataset::none);
    CHECK(data.heldout_background(i) != white_background);
    for (std::size_t j = 0; j < i; ++j) CHECK(data.heldout_pair(i, j) == data.heldout_pair(j, i));
  }
  for (const Sample& s : data.training_singles())
    CHECK(data.training_background(s.scene.objects[0].concept_id, s.scene.background));
  for (const Sample& s : data.heldout_singles()) CHECK(data.heldout_object(s.scene.objects[0].concept_id, s.scene.background));
  // Lists do not depend on the seed.
  CHECK(data.heldout_counts().size() == other.heldout_counts().size());
  CHECK(data.seen_pairs(20)[19].caption == other.seen_pairs(20)[19].caption);
  CHECK(data.single(0, 2).caption == "a fox on a light blue background");
  CHECK(data.single(5, 7).caption == "a red apple on an orange background");
  CHECK(data.single(5, 0, true).caption == "a red apple");
  CHECK_THROWS_AS(data.single(5, 1, true), mobilediffusion::Error);
  CHECK(data.count(1, 3, 0).caption == "three mice on a white background");
  CHECK(data.sizes(2, 6, false, 5).caption == "a small owl and a big loaf of bread on a red background");
}

TEST_CASE("emoji: scores recognise the truth and its absence", "[emoji]") {
  const auto entries = small_list();
  const Vocabulary vocabulary(Level::objects, entries);
  const Bitmaps bitmaps = discs(vocabulary.size());
  const Dataset data(vocabulary, visibility_of(bitmaps, 0.0f), 1);
  const Scorer scorer(vocabulary, bitmaps);
  for (const Sample& s :
       {data.single(3, 2), data.count(4, 3, 1), data.left_of(1, 2, 4), data.above(5, 0, 6), data.sizes(6, 7, true, 9)}) {
    INFO(s.caption);
    const Score perfect = scorer.score(bitmaps.render(s.scene), s);
    CHECK(perfect.ranks.size() == s.scene.objects.size());
    CHECK(perfect.top1());
    CHECK(perfect.psnr == 99.0);
    CHECK(perfect.background_right);
    // Another object on another background: nothing of it counts.
    Scene wrong = s.scene;
    for (Placement& p : wrong.objects) p.concept_id = (p.concept_id + 1) % vocabulary.size();
    const Score swapped = scorer.score(bitmaps.render(wrong), s);
    CHECK_FALSE(swapped.top1());
    CHECK(swapped.psnr < 30.0);
    CHECK(swapped.background_right);
    wrong.background = (wrong.background + 1) % backgrounds.size();
    CHECK_FALSE(scorer.score(bitmaps.render(wrong), s).background_right);
  }
  for (std::size_t n = 1; n <= 4; ++n) CHECK(scorer.count(bitmaps.render({layout::count(2, n), 3}), 2, 3) == n);
  // The rank agrees with drawing every candidate.
  const auto picture = bitmaps.render({{layout::single(4), {1, 30, 30, 60}}, 2});
  std::size_t better = 0;
  const auto error_of = [&](std::size_t i) {
    return mean_squared_error(crop(picture, layout::single(i)),
                              crop(bitmaps.render({{layout::single(i)}, 2}), layout::single(i)));
  };
  for (std::size_t i = 0; i < vocabulary.size(); ++i) better += error_of(i) < error_of(1);
  CHECK(scorer.rank(picture, layout::single(1), 2) == better);
  CHECK(better > 0);
  CHECK_THROWS_AS(scorer.rank(picture, {1, 0, 0, 77}, 2), mobilediffusion::Error);
  const Report r = report({scorer.score(bitmaps.render(data.count(2, 4, 0).scene), data.count(2, 2, 0))}, {data.count(2, 2, 0)});
  CHECK(r.count_right == 0.0);
  CHECK(r.background_right == 1.0);
}

TEST_CASE("emoji: Unicode's list gives the vocabulary", "[emoji]") {
  if (!std::filesystem::exists(default_names_path)) {
    WARN("no emoji-test.txt here");
    return;
  }
  const Vocabulary vocabulary(Level::all, read_names());
  CHECK(vocabulary.things() >= 849);
  CHECK(vocabulary.size() - vocabulary.things() == 1260);
  std::set<std::string> nouns, plurals;
  std::array<std::size_t, 4> splits{};
  std::set<std::pair<std::size_t, std::size_t>> role_tone, role_gender;  // of training
  for (const Concept& c : vocabulary) {
    INFO(c.name);
    CHECK(nouns.insert(c.phrase.noun).second);
    if (!c.phrase.plural.empty()) CHECK(plurals.insert(c.phrase.plural).second);
    if (!c.person) continue;
    ++splits[static_cast<std::size_t>(split_of(*c.person))];
    if (split_of(*c.person) != PersonSplit::training) continue;
    role_tone.insert({c.person->role_id, c.person->tone});
    role_gender.insert({c.person->role_id, c.person->gender});
  }
  CHECK(splits == std::array<std::size_t, 4>{1046, 130, 42, 42});
  for (const Concept& c : vocabulary) {
    if (!c.person) continue;
    const bool tone = role_tone.count({c.person->role_id, c.person->tone}) > 0;
    const bool gender = role_gender.count({c.person->role_id, c.person->gender}) > 0;
    INFO(c.name);
    CHECK(tone == (split_of(*c.person) != PersonSplit::role_tone));
    CHECK(gender == (split_of(*c.person) != PersonSplit::role_gender));
  }
}

#ifdef MOBILEDIFFUSION_TEST_FONT
TEST_CASE("emoji: the font draws every concept", "[emoji]") {
  if (!std::filesystem::exists(default_names_path) || !std::filesystem::exists(default_font_path)) {
    WARN("no emoji font here");
    return;
  }
  const Vocabulary vocabulary(Level::animals_and_foods, read_names());
  const Bitmaps bitmaps = load_bitmaps(vocabulary);
  REQUIRE(bitmaps.size() == vocabulary.size());
  const auto fox = bitmaps[vocabulary.find("fox")];
  CHECK(fox[3] == 0);  // a clear corner
  const std::size_t middle = (64 * 128 + 64) * 4;
  CHECK(fox[middle + 3] == 255);
  CHECK(fox[middle] > fox[middle + 2] + 60);  // orange: red and blue are not exchanged
  bool premultiplied = true;
  for (std::size_t i = 0; i < fox.size(); i += 4)
    for (std::size_t c = 0; c < 3; ++c) premultiplied = premultiplied && fox[i + c] <= fox[i + 3];
  CHECK(premultiplied);
  std::set<std::vector<std::uint8_t>> different;
  for (std::size_t i = 0; i < bitmaps.size(); ++i) different.insert({bitmaps[i].begin(), bitmaps[i].end()});
  CHECK(different.size() == bitmaps.size());

  const Dataset data(vocabulary, visibility_of(bitmaps), 1);
  const auto tangerine = vocabulary.find("tangerine"), polar_bear = vocabulary.find("polar bear");
  CHECK_FALSE(data.visible(tangerine, 7));  // vanishes on orange
  CHECK(data.visible(tangerine, 2));
  CHECK(data.visible(polar_bear, 1));
  for (const auto& samples : {data.seen_singles(), data.heldout_singles(), data.heldout_pairs(), data.heldout_counts(),
                              data.heldout_sizes(), data.seen_counts(), data.seen_pairs()}) {
    CHECK(samples.size() == 200);
    std::set<std::string> captions;
    for (const Sample& s : samples) captions.insert(s.caption);
    CHECK(captions.size() == samples.size());
  }
  for (const Sample& s : data.heldout_counts()) CHECK(data.heldout_count(s.scene.objects[0].concept_id, s.scene.objects.size()));
  for (const Sample& s : data.heldout_pairs())
    CHECK(data.heldout_pair(s.scene.objects[0].concept_id, s.scene.objects[1].concept_id));
  CHECK(data.gallery().size() == 12);
  for (const Sample& s : data.gallery())
    for (const Placement& p : s.scene.objects) CHECK(data.visible(p.concept_id, s.scene.background));
  for (const auto& samples : {data.heldout_singles(), data.heldout_pairs(), data.heldout_counts(), data.heldout_sizes()})
    CHECK(std::all_of(samples.begin(), samples.end(), [&](const Sample& s) { return data.held_out(s); }));
  for (const auto& samples :
       {data.seen_singles(), data.seen_pairs(), data.seen_counts(), data.training_singles(), data.training_counts()})
    CHECK(std::none_of(samples.begin(), samples.end(), [&](const Sample& s) { return data.held_out(s); }));
  Font font;
  CHECK_THROWS_AS(font.bitmap(U"fox", "three letters"), mobilediffusion::Error);
  CHECK_THROWS_AS(Font("no such font"), mobilediffusion::Error);
}
#endif
