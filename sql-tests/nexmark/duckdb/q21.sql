-- Add channel id. Every bid with its channel's id: 0 for Apple, 1 for Google, 2 for Facebook, 3 for Baidu, however they are
-- written, else what the address says after "&channel_id=", up to the next "&". Bids without any are left out.
WITH found AS (
  SELECT *, list_filter(string_split(url, '&')[2:], lambda part: starts_with(part, 'channel_id=')) AS parts FROM bid
),
named AS (
  SELECT * FROM found LEFT JOIN (VALUES ('APPLE', '0'), ('GOOGLE', '1'), ('FACEBOOK', '2'), ('BAIDU', '3')) n(name, number)
    ON upper(channel) = name
)
SELECT auction, bidder, price, channel, coalesce(number, substr(parts[1], 12))
FROM named
WHERE number IS NOT NULL OR len(parts) > 0;
